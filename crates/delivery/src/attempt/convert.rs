//! What is done where no host of a route can take a message as it is: a copy is converted.
//!
//! First all hosts are tried that can take it. Those that cannot are remembered, and asked once more with
//! a copy when nobody was left who could.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{info, warn};
use waypost_convert::Target;
use waypost_mail::{Convert, NextHop, Protocol, Route, Timestamp, Why};
use waypost_queue::{Content, SpoolError};
use waypost_smtp::client::{Obstacle, obstacle};
use waypost_smtp::{BodyType, Extensions};

use super::{Attempt, obstacle_why};
use crate::connection::{Connection, Form};
use crate::converted::{Converted, Limits, NoCopy, Order};
use crate::stored::text_of;

/// Messages above this size are converted off the executor's threads.
const SMALL: u64 = 32 * 1024;

/// A host that cannot take the message as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lacking {
    hop: NextHop,
    address: SocketAddr,
    /// Nor addresses that are not ASCII.
    smtputf8: bool,
}

/// Why a copy is not sent now.
pub(super) enum Halt {
    /// This host is not to have the message.
    Why(Why),
    /// Nobody is to have it before this moment.
    Until(Timestamp),
    /// It cannot be read.
    Unread(SpoolError),
}

impl Attempt<'_> {
    /// What the stored message is.
    pub(super) fn form(&self) -> Form {
        let entry = &self.ticket.entry;
        let body = match () {
            () if entry.terms.binary => BodyType::BinaryMime,
            () if entry.eight_bit => BodyType::EightBitMime,
            () => BodyType::SevenBit,
        };
        Form { body, smtputf8: entry.smtputf8 }
    }

    /// What a converted copy is.
    pub(super) fn form_of(&self, copy: &Converted) -> Form {
        let smtputf8 = self.ticket.entry.smtputf8 && !copy.has_ascii_header();
        Form { body: copy.body, smtputf8 }
    }

    /// Why this host cannot take the message as it is; it is remembered when it could take a copy.
    pub(super) fn unable(
        &mut self,
        connection: &Connection,
        hop: &NextHop,
        address: SocketAddr,
        label: &str,
    ) -> Option<Why> {
        if self.converting {
            return None;
        }
        let Form { body, smtputf8 } = self.form();
        let obstacle = obstacle(connection.extensions(), body, smtputf8, 0)?;
        Some(self.lacks(obstacle, hop, address, label))
    }

    /// The same where it turned out later.
    pub(super) fn lacks(
        &mut self,
        obstacle: Obstacle,
        hop: &NextHop,
        address: SocketAddr,
        label: &str,
    ) -> Why {
        let smtputf8 = obstacle == Obstacle::Smtputf8;
        let helps = matches!(obstacle, Obstacle::EightBit | Obstacle::Binary | Obstacle::Smtputf8);
        if helps && !self.converting {
            self.lacking.push(Lacking { hop: hop.clone(), address, smtputf8 });
        }
        obstacle_why(obstacle, label)
    }

    /// True when hosts should be asked once more, with a copy.
    pub(super) fn may_convert(&mut self, route: &Route, members: &[usize]) -> bool {
        self.converting = route.convert != Convert::Never
            && !self.lacking.is_empty()
            && !self.open(members.iter().copied()).is_empty();
        self.converting
    }

    /// Whether a hop, and a host of it, is to be asked in this round.
    pub(super) fn is_asked(&self, hop: &NextHop, address: Option<SocketAddr>) -> bool {
        let is_meant = |lacking: &Lacking| {
            lacking.hop == *hop && address.is_none_or(|address| lacking.address == address)
        };
        !self.converting || self.lacking.iter().any(is_meant)
    }

    /// Of recipients those whose address this host can take.
    pub(super) fn addressable(&self, address: SocketAddr, members: Vec<usize>) -> Vec<usize> {
        let lacks = |lacking: &Lacking| lacking.address == address && lacking.smtputf8;
        if !self.converting || !self.lacking.iter().any(lacks) {
            return members;
        }
        let is_ascii = |index: &usize| self.ticket.recipients[*index].recipient.mailbox.is_ascii();
        members.into_iter().filter(is_ascii).collect()
    }

    /// The message as this host can take it.
    pub(super) async fn converted(
        &mut self,
        route: &Route,
        extensions: &Extensions,
        hop: &str,
    ) -> Result<Arc<Converted>, Halt> {
        let target = target(extensions, self.form().body);
        let copy = self.copy_for(target, route, hop).await?;
        let (form, signatures) = (self.form(), self.ticket.entry.sign.len());
        self.log.converted(|| words(form, target, copy.is_same, signatures));
        Ok(copy)
    }

    async fn copy_for(
        &mut self,
        target: Target,
        route: &Route,
        hop: &str,
    ) -> Result<Arc<Converted>, Halt> {
        if let Some(known) = self.copies.iter().find(|copy| copy.is_for(target)) {
            return Ok(known.clone());
        }
        let order = self.order(route, target).await?;
        let large = order.text.body.len() > SMALL;
        let made = match large {
            false => Converted::make(order),
            true => {
                let made = tokio::task::spawn_blocking(move || Converted::make(order)).await;
                made.unwrap_or_else(|error| Err(NoCopy::Failed(std::io::Error::other(error))))
            }
        };
        self.delivery.metrics.converted(target, made.as_ref().err());
        let message = self.ticket.id;
        let copy = made.map_err(|error| self.halt(error, hop))?;
        if !copy.is_same {
            let (body, size) = (target.body, copy.len());
            info!(%message, hop, ?body, size, "a converted copy is sent, the next hop lacks extensions");
        }
        let copy = Arc::new(copy);
        self.copies.push(copy.clone());
        Ok(copy)
    }

    async fn order(&mut self, route: &Route, target: Target) -> Result<Order, Halt> {
        let content = self.content().await.map_err(Halt::Unread)?;
        let text = text_of(content)
            .map_err(|error| Halt::Unread(SpoolError::NotNow(self.ticket.id, error.to_string())))?;
        let entry = &self.ticket.entry;
        let intake = &self.delivery.parts.intake;
        let always = route.convert == Convert::Always;
        let submitted = entry.facts.may_relay || entry.facts.protocol == Protocol::Internal;
        Ok(Order {
            message: self.ticket.id,
            target,
            text,
            body: self.form().body,
            sign: entry.sign.clone(),
            seal: intake.seal(),
            keys: intake.keys(),
            now: self.delivery.parts.clock.now(),
            directory: intake.incoming().to_owned(),
            limits: Limits {
                breaks_signatures: always,
                // What was not sent as internationalized mail is mended, not rewritten.
                rewrites_header: always || submitted || !entry.smtputf8,
            },
        })
    }

    fn halt(&self, error: NoCopy, hop: &str) -> Halt {
        let message = self.ticket.id;
        let header = match &error {
            NoCopy::NotOurs => true,
            NoCopy::Unfit(unfit) => unfit.is_about_header(),
            NoCopy::Signed(_) => false,
            NoCopy::Unsigned(_) | NoCopy::Unsealed(_) => {
                warn!(%message, hop, %error, "a copy is not sent without its signature, trying later");
                return Halt::Until(self.later());
            }
            NoCopy::Failed(error) => {
                warn!(%message, hop, %error, "a message cannot be converted now, check the disk");
                return Halt::Why(Why::Unreadable(error.to_string()));
            }
        };
        let (hop, error) = (hop.to_owned(), error.to_string());
        Halt::Why(Why::Unconvertible { hop, header, error })
    }
}

/// What was done for a host that such a copy is for, for a person.
fn words(form: Form, target: Target, is_same: bool, signatures: usize) -> String {
    let wants_ascii = target.ascii_header || target.body == BodyType::SevenBit;
    let lacks = [
        (form.body > target.body && target.body == BodyType::SevenBit, "8BITMIME"),
        (form.body == BodyType::BinaryMime && target.body != form.body, "BINARYMIME"),
        (form.smtputf8 && wants_ascii, "SMTPUTF8"),
    ];
    let lacks: Vec<&str> =
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, name)| name).collect();
    let lacks = lacks.join(" and ");
    match (is_same, signatures) {
        (true, _) => format!("it lacks {lacks}, but nothing had to be changed for it"),
        (false, 0) => format!("it lacks {lacks}: a converted copy was made"),
        (false, _) => format!("it lacks {lacks}: a converted copy was made, and signed again"),
    }
}

/// What a copy of a message that holds `body` must be like for a host that offers `extensions`.
fn target(extensions: &Extensions, body: BodyType) -> Target {
    let Extensions { eight_bit_mime, binary_mime, chunking, smtputf8, .. } = *extensions;
    let is_binary = body == BodyType::BinaryMime;
    let most = match () {
        () if !eight_bit_mime => BodyType::SevenBit,
        () if is_binary && !(binary_mime && chunking) => BodyType::EightBitMime,
        () => BodyType::BinaryMime,
    };
    Target { body: most, ascii_header: !smtputf8 }
}
