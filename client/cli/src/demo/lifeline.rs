//! How a node that `demo` started learns that the demo is gone, however it went.
//!
//! The demo holds the writing end of a pipe that is the node's standard input, and never writes.
//! The kernel closes that end when the demo ends, also after SIGKILL; then the node reads the end of
//! its input and stops as after SIGTERM.

use std::io::{Read as _, stdin};

use tokio::sync::oneshot;

/// Returns when standard input has ended or can not be read.
///
/// Reads on a thread of its own that nobody waits for: a runtime that ends must not wait for a read.
pub(crate) async fn parent_gone() {
    let (tell, told) = oneshot::channel::<()>();
    let watch = move || {
        let mut rest = [0; 64];
        while stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
        drop(tell);
    };
    if std::thread::Builder::new()
        .name("hansa-lifeline".to_owned())
        .spawn(watch)
        .is_err()
    {
        // Without the thread nobody watches: better to end now than to be left behind.
        return;
    }
    // An error is the news: the sender is gone.
    let _ = told.await;
}
