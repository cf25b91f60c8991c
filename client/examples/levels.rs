//! One key at three levels, and what each answer is worth.
//!
//! Start a cluster (`cargo run --release -- demo`), then
//! `cargo run -p hansa-client --example levels`.

use hansa_client::{Client, Consistency, Error, Receipt};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::builder()
        .region("eu-central")
        .endpoint("us-east", "http://127.0.0.1:7101")
        .endpoint("eu-central", "http://127.0.0.1:7102")
        .endpoint("ap-northeast", "http://127.0.0.1:7103")
        .build()
        .await?;
    for level in [
        Consistency::Eventual,
        Consistency::Session,
        Consistency::Strong,
    ] {
        let key = "profile/example/levels";
        let put = client
            .put("profiles", key, level.name())
            .level(level)
            .await?;
        show("put", &put.receipt);
        let got = client.get("profiles", key).level(level).await?;
        show("get", &got.receipt);
    }
    Ok(())
}

fn show(what: &str, receipt: &Receipt) {
    println!(
        "{what} {:8} by {} in {:?}: {} WAN round trips, stale at most {:?}",
        receipt.level.name(),
        receipt.served_by,
        receipt.elapsed,
        receipt.wan_round_trips,
        receipt.staleness,
    );
}
