//! `hansa admin cut|heal`: the demo serves `Admin.SetLink` on its admin port.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hansa_node::grpc::admin::{LinkChange, Links as Controls, serve_links};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::links::{Links, Way};
use super::shape::region_index;

/// Carries orders to the links, and tells the screen about them.
struct Desk {
    links: Arc<Links>,
    news: mpsc::UnboundedSender<String>,
}

impl Desk {
    fn carry_out(&self, change: &LinkChange) -> Result<u32, String> {
        let index = |name: &str| region_index(name).map_err(|error| error.to_string());
        let region = index(&change.region)?;
        let peer = change.peer_region.as_deref().map(index).transpose()?;
        if peer == Some(region) {
            return Err("a region has no link with itself: name another peer region".to_owned());
        }
        let way = match (change.inbound, change.outbound) {
            (true, false) => Way::Inbound,
            (false, true) => Way::Outbound,
            _ => Way::Both,
        };
        let changed = self.links.set(region, peer, way, change.cut);
        let done = if change.cut { "cut" } else { "healed" };
        // Without a reader nobody wants the news.
        let _ = self
            .news
            .send(format!("{done} {}: {changed} links", change.region));
        Ok(changed)
    }
}

impl Controls for Desk {
    // Written out as the trait's attribute would: the answer is there at once.
    fn set<'desk, 'answer>(
        &'desk self,
        change: LinkChange,
    ) -> Pin<Box<dyn Future<Output = Result<u32, String>> + Send + 'answer>>
    where
        'desk: 'answer,
        Self: 'answer,
    {
        let done = self.carry_out(&change);
        Box::pin(async move { done })
    }
}

/// The running admin service; ends when it is dropped.
pub(crate) struct Orders(JoinHandle<()>);

impl Orders {
    /// Serves on `address`; what is done is also sent to `news`.
    ///
    /// # Errors
    /// When the port can not be had.
    pub(crate) async fn serve(
        address: SocketAddr,
        links: Arc<Links>,
        news: mpsc::UnboundedSender<String>,
    ) -> Result<Orders> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("no admin service on {address}: --port-base moves all ports")
        })?;
        let desk: Arc<dyn Controls> = Arc::new(Desk {
            links,
            news: news.clone(),
        });
        Ok(Orders(tokio::spawn(async move {
            let served = serve_links(listener, desk, std::future::pending()).await;
            if let Err(error) = served {
                let _ = news.send(format!("the admin service ended: {error}"));
            }
        })))
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hansa_client::Admin;
    use hansa_client::admin::{LinkDirection, LinkState};

    use super::super::links::{count, plan};
    use super::super::ports::{BASE_DEFAULT, Ports};
    use super::super::shape::Shape;
    use super::*;

    async fn links() -> Arc<Links> {
        let shape = Shape::new(1, &[]);
        let ports = Ports::new(BASE_DEFAULT, shape.nodes(), count(&shape)).unwrap();
        let mut plan = plan(&shape, ports);
        for link in &mut plan {
            link.listen.set_port(0);
        }
        Arc::new(Links::start(&shape, &plan).await.unwrap())
    }

    #[tokio::test]
    async fn orders_are_carried_out_and_told() {
        let links = links().await;
        let (news, mut told) = mpsc::unbounded_channel();
        // The service binds by itself: a port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let _orders = Orders::serve(free, links.clone(), news).await.unwrap();
        let admin = Admin::connect(&format!("http://{free}"), Duration::from_secs(5))
            .await
            .unwrap();
        let both = LinkDirection::Unspecified;
        let cut = admin.set_link("ap-northeast", LinkState::Cut, both).await;
        assert_eq!(cut.unwrap(), 8);
        assert_eq!(links.cut_now(), ["ap-northeast"]);
        assert_eq!(told.recv().await.unwrap(), "cut ap-northeast: 8 links");
        let healed = admin
            .set_link("ap-northeast", LinkState::Healed, both)
            .await;
        assert_eq!(healed.unwrap(), 8);
        assert!(links.cut_now().is_empty());
        let error = admin
            .set_link("mars", LinkState::Cut, both)
            .await
            .unwrap_err();
        assert!(
            error
                .message()
                .contains("us-east, eu-central, ap-northeast"),
            "{error}"
        );
    }
}
