//! HTTP for operators over a Unix socket or TCP, metrics, and the client the CLI uses.
//!
//! [`api`] says what is asked and answered, [`server`] answers it from the queue, and [`client`] is
//! how the command line asks. What this room does not own (reloading, draining, bouncing) it asks
//! of [`Control`], which the program implements.

#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod server;
pub mod story;

pub use client::{Client, ClientError};
pub use server::{Bound, Server};
pub use story::Story;

use async_trait::async_trait;
use waypost_mail::{MessageId, Route, Suppression};
use waypost_queue::Selected;
use waypost_smtp::Domain;

use crate::api::{
    Ban, ExplainRequest, Generation, LiftBans, ListSuppressions, Overview, PolicyReload,
    PolicyView, ShowSuppressions, StageExplained, SuppressionPage, Unsuppress, Verdict,
};

/// What operators ask of the program beyond the queue.
#[async_trait]
pub trait Control: Send + Sync {
    /// How the program fares.
    fn overview(&self) -> Overview;
    /// Reads the configuration again. The answer says in words what came of it.
    ///
    /// # Errors
    /// Every mistake in the file; the running settings stay.
    async fn reload(&self) -> Result<String, String>;
    /// Takes no more mail, finishes what is under way, and ends the program.
    async fn drain(&self);
    /// Bounces what is left of a message, telling its sender.
    ///
    /// # Errors
    /// Why not, in words.
    async fn bounce(&self, whom: Selected, reason: String) -> Result<Verdict, String>;
    /// Gives up what is left of a message as if its time were over, telling its sender.
    ///
    /// # Errors
    /// Why not, in words.
    async fn expire(&self, whom: Selected) -> Result<Verdict, String>;
    /// The way that an operator names, for recipients of a message in one domain; see
    /// [`api::ChangeRequest::to`].
    ///
    /// # Errors
    /// When there is no such way.
    fn way(&self, to: &str, message: MessageId, domain: &Domain) -> Result<Route, String>;
    /// The plugins and the generations they belong to.
    fn policy(&self) -> PolicyView;
    /// Reads the plugins again and puts them in force, or on trial.
    ///
    /// # Errors
    /// Everything that is wrong with them; the running ones stay.
    async fn reload_policy(&self, request: PolicyReload) -> Result<Generation, String>;
    /// Puts an earlier generation in force again, or ends a trial.
    ///
    /// # Errors
    /// When there is none.
    async fn rollback_policy(&self, id: Option<u64>) -> Result<Generation, String>;
    /// Which plugins would be asked about a message, and why the others would not.
    ///
    /// # Errors
    /// When the request makes no sense.
    fn explain(&self, request: ExplainRequest) -> Result<Vec<StageExplained>, String>;
    /// Addresses that are shut out after failed logins.
    fn bans(&self) -> Vec<Ban>;
    /// Lets in again who is in a network, or all; how many bans that ends.
    ///
    /// # Errors
    /// When it is no network, or the disk fails.
    async fn lift_bans(&self, request: LiftBans) -> Result<usize, String>;
    /// Who gets no more mail, page by page.
    ///
    /// # Errors
    /// When the disk fails.
    async fn suppressed(&self, request: ListSuppressions) -> Result<SuppressionPage, String>;
    /// The entries about one address or domain.
    ///
    /// # Errors
    /// When the disk fails.
    async fn suppressed_for(&self, request: ShowSuppressions) -> Result<Vec<Suppression>, String>;
    /// Puts entries on the suppression list; how many.
    ///
    /// # Errors
    /// When the disk fails; those before are on the list.
    async fn suppress(&self, entries: Vec<Suppression>) -> Result<usize, String>;
    /// Takes entries off the suppression list; how many.
    ///
    /// # Errors
    /// When the disk fails.
    async fn unsuppress(&self, request: Unsuppress) -> Result<usize, String>;
    /// All counters, in the text format of Prometheus.
    fn metrics(&self) -> String;
}
