//! A relay that runs within the test's process.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use waypost::control::Controls;
use waypost::relay::Relay;
use waypost_admin::Client;
use waypost_admin::api::Overview;
use waypost_delivery::Reports;
use waypost_queue::{Queue, Selector, Status, Summary};

use crate::home::Places;
use crate::{Door, Peer, eventually};

/// A relay at work. Dropping it does not end it in order: see [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    relay: Relay,
    client: Client,
    roots: RootCertStore,
    _places: Arc<Places>,
}

impl Running {
    pub(crate) fn new(
        relay: Relay,
        client: Client,
        roots: RootCertStore,
        places: Arc<Places>,
    ) -> Running {
        Running { relay, client, roots, _places: places }
    }

    /// Where this door is.
    ///
    /// # Panics
    /// When the home has no such door.
    pub fn address(&self, door: Door) -> SocketAddr {
        let doors = self.relay.addresses();
        let there = doors.iter().find(|(config, _)| config.name == door.name());
        there.and_then(|(_, place)| place.tcp()).expect("the home has this door")
    }

    /// A peer that has connected to this door and heard the greeting; on
    /// [`Door::Submissions`] it speaks TLS.
    pub async fn peer(&self, door: Door) -> Peer {
        let address = self.address(door);
        let mut peer = match door {
            Door::Submissions => Peer::to(address).await.encrypt(&self.roots).await,
            _ => Peer::to(address).await,
        };
        peer.hear("220 ").await;
        peer
    }

    /// What peers trust.
    pub fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// The client for operators.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        self.relay.queue()
    }

    /// Where it is counted how TLS went, if reports are sent.
    pub fn reports(&self) -> Option<&Arc<Reports>> {
        self.relay.reports()
    }

    /// What operators ask.
    pub fn controls(&self) -> &Arc<Controls> {
        self.relay.controls()
    }

    /// What waits, is held or is under way.
    pub fn queued(&self) -> Vec<Summary> {
        self.queue().list(&Selector::everything(), None, 1000).unwrap().messages
    }

    /// Waits until nothing is in the queue, nor on its way into it: a list leaves out what goes while it
    /// is made, and a notice comes into it a moment after what it is about went.
    pub async fn empty(&self) {
        let nothing = |status: Status| status.waiting + status.held + status.leased == 0;
        let empty = || nothing(self.queue().status()) && self.queued().is_empty();
        eventually("the queue is empty", empty).await;
    }

    /// What `waypost status` shows.
    pub async fn overview(&self) -> Overview {
        self.client.get("/v1/status").await.unwrap()
    }

    /// The value of a counter at `/metrics`: its name with labels as they stand there; 0 if absent.
    pub async fn counter(&self, name: &str) -> u64 {
        let text = self.client.text("/metrics").await.unwrap();
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or(0)
    }

    /// Ends it as after a failure of its spool: what is under way is cut off.
    pub async fn cut_off(self) {
        self.relay.abandon().await;
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.relay.drain().await;
    }
}
