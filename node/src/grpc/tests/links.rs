//! The receiving end of a peer's link.

use hansa_consistency::message::Message;
use hansa_proto::v1::peer_client::PeerClient;
use hansa_proto::v1::{PeerFrame, peer_frame::Body};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;
use crate::settings::TOPOLOGY_EXAMPLE;

fn frame(body: Body) -> PeerFrame {
    PeerFrame { body: Some(body) }
}

/// Dials a node and says one frame.
async fn dial(
    node: &Running,
    first: Body,
) -> Result<(mpsc::Sender<PeerFrame>, Streaming<PeerFrame>), Status> {
    let (say, said) = mpsc::channel(16);
    say.send(frame(first)).await.unwrap();
    let mut client = PeerClient::new(channel(node.peers).await);
    let heard = client.link(ReceiverStream::new(said)).await?;
    Ok((say, heard.into_inner()))
}

fn message(node: &Running, from: u16) -> Body {
    Body::Envelope(wire::envelope_to_wire(Envelope {
        cluster: node.edge.names.cluster(),
        from: NodeId(from),
        start: 1,
        incarnation: 1,
        store_sequence: 0,
        hlc: Hlc(1),
        message: Message::StartAsk,
    }))
}

#[tokio::test]
async fn a_peer_of_ours_is_greeted_and_heard() {
    let node = run(TOPOLOGY_EXAMPLE).await;
    let names = &node.edge.names;
    let hello = greeting(names, "eu-central-1", "eu-central");
    let (say, mut heard) = dial(&node, Body::Hello(hello)).await.unwrap();
    let first = heard.message().await.unwrap().unwrap();
    let Some(Body::Hello(ours)) = first.body else {
        panic!("no hello");
    };
    assert_eq!(ours.node, "us-east-1");
    say.send(frame(message(&node, 1))).await.unwrap();
    drop(say);
    // The link ends when the peer has said everything, and by then the driver has it.
    assert!(heard.message().await.unwrap().is_none());
    let text = node.edge.metrics.encode().unwrap();
    let counted = "peer=\"eu-central-1\",peer_region=\"eu-central\",direction=\"received\",kind=\"start_ask\"} 1";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn strangers_are_refused_and_told_why() {
    let node = run(TOPOLOGY_EXAMPLE).await;
    let names = &node.edge.names;
    let changed = |change: fn(&mut v1::PeerHello)| {
        let mut hello = greeting(names, "eu-central-1", "eu-central");
        change(&mut hello);
        hello
    };
    type Case = (fn(&mut v1::PeerHello), &'static str);
    let cases: [Case; 6] = [
        (|hello| hello.format_version = 2, "version 2"),
        (
            |hello| hello.cluster_id = "mars".to_owned(),
            "cluster `mars`",
        ),
        (
            |hello| hello.topology_digest = "x".into(),
            "give all nodes the same file",
        ),
        (|hello| hello.node = "mars-1".to_owned(), "no node `mars-1`"),
        (
            |hello| hello.region = "us-east".to_owned(),
            "in region `us-east`",
        ),
        (
            |hello| {
                hello.node = "us-east-1".to_owned();
                hello.region = "us-east".to_owned();
            },
            "which is this node",
        ),
    ];
    for (change, expected) in cases {
        let status = dial(&node, Body::Hello(changed(change))).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(expected), "{expected}: {status}");
    }
    let status = dial(&node, message(&node, 1)).await.unwrap_err();
    assert!(status.message().contains("no hello"), "{status}");
}

#[tokio::test]
async fn a_message_in_anothers_name_ends_the_link() {
    let node = run(TOPOLOGY_EXAMPLE).await;
    let hello = greeting(&node.edge.names, "eu-central-1", "eu-central");
    let (say, mut heard) = dial(&node, Body::Hello(hello)).await.unwrap();
    heard.message().await.unwrap().unwrap();
    say.send(frame(message(&node, 2))).await.unwrap();
    let status = heard.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
