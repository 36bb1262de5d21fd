//! XCLIENT: a peer that is trusted says for whom it speaks (Postfix's XCLIENT_README).

use std::net::SocketAddr;

use tracing::{Span, info};
use waypost_smtp::server::{Answer, Told, Xclient, XclientRule};

use super::Decider;
use crate::server::turned_away;
use crate::tls::Secured;

impl Decider {
    /// Only peers that are listed get here. From now on the session is the client's.
    pub(super) fn introduced(&mut self, told: Xclient) -> Answer {
        let proxy = self.facts.client;
        let other = !matches!(told.address, Told::Unsaid);
        match told.address {
            Told::Is(address) => {
                let settings = &self.current.settings;
                if let Some(presence) = &self.presence
                    && let Err(full) = presence.readdress(address, settings)
                {
                    let (reply, reason) = turned_away(full);
                    self.house.metrics.refused(&self.facts.listener, reason);
                    return Answer::Disconnect(reply);
                }
                self.facts.client = SocketAddr::new(address, 0);
                self.anonymous = false;
                if let Err(shut_out) = self.not_shut_out() {
                    return shut_out;
                }
            }
            Told::Unknown => self.anonymous = true,
            Told::Unsaid => {}
        }
        if let Told::Is(port) = told.port {
            self.facts.client.set_port(port);
        }
        if other {
            self.spoken_for = true;
            // The channel is the peer's, and so is what could be bound to it.
            self.binding = None;
            self.facts.client_name = None;
            if let Some(tls) = &mut self.facts.tls {
                tls.certificate = None;
            }
        }
        if !matches!(told.name, Told::Unsaid) {
            self.facts.client_name = told.name.known().cloned();
        }
        if let Told::Is(address) = told.to_address {
            self.facts.local.set_ip(address);
        }
        if let Told::Is(port) = told.to_port {
            self.facts.local.set_port(port);
        }
        self.begin_anew(told.helo.known().cloned(), told.esmtp.known().copied());
        self.facts.identity = told.login.known().cloned();
        self.logged_in = self.facts.identity.is_some();
        self.facts.may_relay = self.facts.identity.is_some() || self.is_admitted();
        Span::current().record("client", tracing::field::display(self.facts.client));
        info!(
            %proxy,
            client = %self.facts.client,
            name = self.facts.client_name,
            user = self.facts.identity,
            "a peer speaks for another client"
        );
        Answer::Introduced {
            again: self.may_again(),
            authenticated: self.facts.identity.is_some(),
            mechanisms: self.mechanisms(),
        }
    }

    /// What whom the peer speaks for can log in with: nothing is bound to a channel that is the peer's
    /// (RFC 5802 §6), and no certificate in it is the client's (RFC 4422 §A).
    fn mechanisms(&self) -> Option<Vec<String>> {
        let facts = self.facts.tls.clone()?;
        Some(self.current.settings.mechanisms(&Secured { facts, binding: self.binding.clone() }))
    }

    /// What was said in the session so far was the peer's own.
    fn begin_anew(&mut self, helo: Option<String>, esmtp: Option<bool>) {
        self.facts.helo = helo;
        self.facts.protocol = self.manner.protocol(esmtp == Some(true));
        self.facts.meta.clear();
        self.connect_meta.clear();
        self.exchange = None;
        self.transaction = None;
    }

    /// Whether the client spoken for may use XCLIENT itself: else its own words, passed on by a peer
    /// that says nothing more, could make it somebody else.
    fn may_again(&self) -> bool {
        let address = (!self.anonymous).then_some(self.facts.client.ip());
        let door = self.current.settings.door(&self.facts.listener);
        door.is_some_and(|door| door.xclient.rule(address) != XclientRule::Off)
    }
}
