//! The client and its builder.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::endpoint::{Endpoint, Shared};
use crate::error::Error;
use crate::request_ids::Lanes;
use crate::route::{Candidate, order};

/// Longest time a call may take: 60 s.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// A connection to a cluster. Cheap to clone; clones share everything. One per process is enough.
///
/// Calls are made on the nearest endpoint: first the home region, then by measured round trip. When
/// an endpoint is down, calls go to the next one, and come back when it answers again: it is tried
/// in the background, about every second.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Arc<Endpoint>>,
    home: Option<String>,
    stays_home: bool,
    deadline: Duration,
    lanes: Lanes,
    shared: Arc<Shared>,
}

impl Client {
    /// Starts with no endpoint, 2 s to connect and 5 s per call.
    pub fn builder() -> Builder {
        Builder {
            endpoints: Vec::new(),
            home: None,
            stays_home: false,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            deadline: DEADLINE_DEFAULT,
        }
    }

    /// How the endpoints are doing, in the order in which a call would ask them.
    pub fn endpoints(&self) -> Vec<EndpointInfo> {
        let info = |index: usize| {
            let endpoint = self.endpoint(index);
            let health = endpoint.health();
            EndpointInfo {
                url: endpoint.url.clone(),
                region: health.region,
                node: health.node,
                round_trip: health.round_trip,
                down: health.down,
            }
        };
        self.order().into_iter().map(info).collect()
    }

    pub(crate) fn endpoint(&self, index: usize) -> &Arc<Endpoint> {
        &self.0.endpoints[index]
    }

    pub(crate) fn region_of(&self, index: usize) -> Option<String> {
        self.endpoint(index).health().region
    }

    /// Whether a call may go to a node of this region.
    pub(crate) fn may_ask(&self, region: &str) -> bool {
        !self.0.stays_home || self.0.home.as_deref() == Some(region)
    }

    /// Endpoints a call may use, the one to ask first in front.
    pub(crate) fn order(&self) -> Vec<usize> {
        let inner = &self.0;
        let candidate = |(index, endpoint): (usize, &Arc<Endpoint>)| {
            let health = endpoint.health();
            let home = inner.home.is_some() && health.region == inner.home;
            // One whose region is not known yet may be at home: its greeting tells.
            let may_ask = health
                .region
                .as_deref()
                .is_none_or(|name| self.may_ask(name));
            may_ask.then_some(Candidate {
                index,
                home,
                round_trip: health.round_trip,
                down: health.down,
            })
        };
        let endpoints = inner.endpoints.iter().enumerate();
        order(endpoints.filter_map(candidate).collect())
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

/// How one endpoint is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointInfo {
    /// Its address.
    pub url: String,
    /// Its region, as configured or as its node said.
    pub region: Option<String>,
    /// The node that answered there.
    pub node: Option<String>,
    /// The round trip, measured whenever a connection is made and smoothed; `None` before the first.
    pub round_trip: Option<Duration>,
    /// Whether the last attempt to reach it failed.
    pub down: bool,
}

/// What a [`Client`] is built from.
#[derive(Clone, Debug)]
pub struct Builder {
    endpoints: Vec<(Option<String>, String)>,
    home: Option<String>,
    stays_home: bool,
    connect_timeout: Duration,
    deadline: Duration,
}

impl Builder {
    /// The home region: its endpoints are asked first.
    pub fn region(mut self, name: impl Into<String>) -> Builder {
        self.home = Some(name.into());
        self
    }

    /// Fails rather than leave the home region. Needs [`region`](Builder::region). No request is sent
    /// to a node that says it is in another region.
    pub fn stay_in_region(mut self) -> Builder {
        self.stays_home = true;
        self
    }

    /// Adds an endpoint of a region, `http://host:port`; there is no TLS. A node that says it is in
    /// another region, or in another cluster than the first one that answered, is refused with
    /// `WRONG_ENDPOINT`, and the next endpoint is asked.
    pub fn endpoint(mut self, region: impl Into<String>, url: impl Into<String>) -> Builder {
        self.endpoints.push((Some(region.into()), url.into()));
        self
    }

    /// Adds an endpoint whose region is learned from its node.
    pub fn endpoint_anywhere(mut self, url: impl Into<String>) -> Builder {
        self.endpoints.push((None, url.into()));
        self
    }

    /// How long an attempt to connect may take, greeting included, more than 0; 2 s unless told
    /// otherwise.
    pub fn connect_timeout(mut self, time: Duration) -> Builder {
        self.connect_timeout = time;
        self
    }

    /// How long a call may take that says nothing itself, more than 0 and at most [`DEADLINE_MAX`];
    /// 5 s unless told otherwise.
    pub fn deadline(mut self, time: Duration) -> Builder {
        self.deadline = time;
        self
    }

    /// Builds the client.
    ///
    /// Connects to all endpoints at once, to those of the home region only with
    /// [`stay_in_region`](Builder::stay_in_region), and waits until it is known which is nearest: until
    /// one of the home region greeted, or, without such a one, until all greeted or failed; at most
    /// the connect timeout. The others are connected to and measured in the background. An endpoint
    /// that is down is no error here: calls tell.
    ///
    /// Runs on the Tokio runtime it is awaited on, and so do the connections: it must outlive the
    /// client.
    ///
    /// # Errors
    /// Of kind [`Invalid`](crate::ErrorKind::Invalid): there is no endpoint, an address is none, the
    /// time bounds do not hold, or the home region has no endpoint.
    pub async fn build(self) -> Result<Client, Error> {
        self.check()?;
        let shared = Arc::new(Shared::default());
        let endpoint = |(region, url): &(Option<String>, String)| {
            let region = region.clone();
            Endpoint::new(url, region, self.connect_timeout, shared.clone()).map(Arc::new)
        };
        let endpoints: Result<Vec<_>, Error> = self.endpoints.iter().map(endpoint).collect();
        let client = Client(Arc::new(Inner {
            endpoints: endpoints?,
            home: self.home,
            stays_home: self.stays_home,
            deadline: self.deadline,
            lanes: Lanes::default(),
            shared,
        }));
        client.greet().await;
        Ok(client)
    }

    fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            return Err(
                Error::invalid("the client has no endpoint: name at least one")
                    .with_field("endpoint"),
            );
        }
        if self.connect_timeout.is_zero() || self.deadline.is_zero() || self.deadline > DEADLINE_MAX
        {
            return Err(Error::invalid(
                "the connect timeout is more than 0, the deadline more than 0 and at most 60 s",
            ));
        }
        let Some(home) = &self.home else {
            return match self.stays_home {
                true => {
                    Err(Error::invalid("to stay in the home region, name it").with_field("region"))
                }
                false => Ok(()),
            };
        };
        let may_be_home = |region: &Option<String>| region.as_ref().is_none_or(|name| name == home);
        if self.endpoints.iter().any(|(region, _)| may_be_home(region)) {
            return Ok(());
        }
        let regions: Vec<&str> = self
            .endpoints
            .iter()
            .filter_map(|e| e.0.as_deref())
            .collect();
        Err(Error::invalid(format!(
            "no endpoint is in the home region `{home}`; the endpoints are in {}",
            regions.join(", ")
        ))
        .with_field("region"))
    }
}

impl Client {
    /// Asks all endpoints a call may use who they are, and waits for the answers: with a home region
    /// for the first from there. The others go on in the background and are measured, so that the
    /// nearest of them is known when it is needed.
    async fn greet(&self) {
        let mut greetings = JoinSet::new();
        for index in self.order() {
            let endpoint = self.endpoint(index).clone();
            greetings.spawn(async move { endpoint.stream().await.ok().map(|_| index) });
        }
        while let Some(answer) = greetings.join_next().await {
            if let Ok(Some(index)) = answer
                && self.0.home.is_some()
                && self.region_of(index) == self.0.home
            {
                return greetings.detach_all();
            }
        }
    }
}
