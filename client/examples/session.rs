//! A session that travels: written in one region, read in another, by way of a string.
//!
//! Start a cluster (`cargo run --release -- demo`), then
//! `cargo run -p hansa-client --example session`.

use hansa_client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let europe = at("eu-central", "http://127.0.0.1:7102").await?;
    let session = europe.session();
    session.add("carts", "cart/example", "TEA-01 x2").await?;
    let suitcase = session.export().await;
    println!("carried in {} characters", suitcase.len());

    let asia = at("ap-northeast", "http://127.0.0.1:7103").await?;
    let arrived = asia.resume(&suitcase)?;
    let reply = arrived
        .contains("carts", "cart/example", "TEA-01 x2")
        .await?;
    println!(
        "{} sees it: {} (after {:?})",
        reply.receipt.served_by, reply.member, reply.receipt.elapsed
    );
    Ok(())
}

async fn at(region: &str, url: &str) -> Result<Client, Error> {
    Client::builder()
        .region(region)
        .endpoint(region, url)
        .build()
        .await
}
