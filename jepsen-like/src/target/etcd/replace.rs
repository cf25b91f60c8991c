//! What an operator does for a member that lost its data: removes it from the cluster and adds an empty one in its place.
//!
//! Started again as who it was, such a member would vote twice in one term and lack what it had acknowledged; etcd's
//! documentation forbids it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::api::cluster_client::ClusterClient;
use super::api::{MemberAddRequest, MemberListRequest, MemberRemoveRequest};

/// Between two attempts. etcd refuses until the others have been connected for 5 s.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Replaces the member that advertises this peer URL by an empty one, which is not started yet. After an error it can be
/// repeated.
///
/// # Errors
/// What was wrong the last time, after `within`.
pub(super) async fn replace(
    through: &ClusterClient<Channel>,
    peer_url: &str,
    within: Duration,
) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let why = match timeout(left, attempt(through.clone(), peer_url)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(_) => format!("no answer within {within:?}"),
        };
        if begun.elapsed() + AGAIN_AFTER >= within {
            return Err(why);
        }
        sleep(AGAIN_AFTER).await;
    }
}

async fn attempt(mut api: ClusterClient<Channel>, peer_url: &str) -> Result<(), tonic::Status> {
    let list = api.member_list(MemberListRequest {}).await?.into_inner();
    // Also one that an earlier attempt added and that was never started.
    let mut all = list.members.into_iter();
    if let Some(old) = all.find(|member| member.peer_urls.iter().any(|it| it == peer_url)) {
        api.member_remove(MemberRemoveRequest { id: old.id })
            .await?;
    }
    let peer_urls = vec![peer_url.to_owned()];
    api.member_add(MemberAddRequest { peer_urls }).await?;
    Ok(())
}
