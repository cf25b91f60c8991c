//! Reading page by page.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio_stream::{Stream, StreamExt};

use crate::call::Call;
use crate::error::Error;
use crate::reply::{Members, Page};
use crate::wire;

/// A reply that may be followed by another one.
pub trait Paged: sealed::Sealed + Unpin + 'static {
    /// Where to go on; empty at the end.
    fn next(&self) -> &Bytes;
}

impl Paged for Page {
    fn next(&self) -> &Bytes {
        &self.next
    }
}

impl Paged for Members {
    fn next(&self) -> &Bytes {
        &self.next
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Page {}
    impl Sealed for super::Members {}
}

impl<R: Paged> Call<R> {
    /// Rows or elements at most in a page: 1 to 1000, or 0 for the default of 100; more is refused by
    /// the server. A page also ends at about 1 MiB.
    pub fn page_size(mut self, rows: u32) -> Call<R> {
        wire::set_page_size(&mut self.body, rows);
        self
    }

    /// Begins behind an earlier page: its `next`, of the same keyspace, key and prefix. Another one is
    /// refused by the server with `PAGE_TOKEN_INVALID`.
    pub fn page_token(mut self, token: Bytes) -> Call<R> {
        wire::set_page_token(&mut self.body, token);
        self
    }

    /// All pages from here on, one call each; the deadline counts for each page anew.
    pub fn pages(self) -> Pages<R> {
        Pages {
            call: Some(self),
            page: None,
        }
    }
}

type PageFuture<R> = <Call<R> as IntoFuture>::IntoFuture;

/// The pages of a scan or of a set, in order. Ends after the last page or the first error.
///
/// There is no snapshot over pages: each shows its rows as of some moment while it was read.
pub struct Pages<R: Paged> {
    /// What the next page is asked with; `None` at the end.
    call: Option<Call<R>>,
    page: Option<PageFuture<R>>,
}

impl<R: Paged> fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

impl<R: Paged> Pages<R> {
    /// The next page; `None` at the end. Loses nothing when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<R, Error>> {
        StreamExt::next(self).await
    }
}

impl<R: Paged> Stream for Pages<R> {
    type Item = Result<R, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.page.is_none() {
            let Some(call) = &this.call else {
                return Poll::Ready(None);
            };
            this.page = Some(call.clone().into_future());
        }
        let Some(page) = &mut this.page else {
            return Poll::Ready(None);
        };
        let result = ready!(page.as_mut().poll(cx));
        this.page = None;
        match &result {
            Ok(page) if !page.next().is_empty() => {
                let token = page.next().clone();
                this.call = this.call.take().map(|call| call.page_token(token));
            }
            _ => this.call = None,
        }
        Poll::Ready(Some(result))
    }
}
