//! What the spool asks of its index: values under ordered keys, written in batches, durable when
//! flushed. sled does it in the program, a model of it in the simulation.

use std::fmt;
use std::io;
use std::sync::Arc;

use waypost_mail::Timestamp;

use crate::row::Writes;

/// An ordered map. What a method answers as an error in words is taken for lasting: nothing the map
/// says afterwards is believed.
pub trait Rows: Send + Sync + fmt::Debug {
    /// Writes all of it or nothing: values, and keys to remove. Seen by readers at once; on the
    /// disk not before [`Rows::flush`], and then in the order of the batches.
    ///
    /// # Errors
    /// When storage failed.
    fn apply(&self, writes: Writes) -> Result<(), String>;
    /// What was applied is on the disk when this returns.
    ///
    /// # Errors
    /// When storage failed.
    fn flush(&self) -> Result<(), String>;
    /// The value under a key.
    ///
    /// # Errors
    /// When storage failed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;
    /// Keys and values from `from` on, in order, until `each` answers false.
    ///
    /// # Errors
    /// When storage failed.
    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), String>;
}

/// Where an index is kept between two runs.
pub trait RowsPlace: Send + Sync + fmt::Debug {
    /// True when there is one.
    fn exists(&self) -> bool;
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// See [`RowsError`].
    fn open(&self) -> Result<Arc<dyn Rows>, RowsError>;
    /// Puts a damaged one where a person can look at it, so that another can be made. Answers where.
    ///
    /// # Errors
    /// When the system refuses.
    fn set_aside(&self, now: Timestamp) -> io::Result<String>;
}

/// Why an index could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// It is damaged, panicked or never answered: it can be rebuilt.
    #[error("{0}")]
    Damaged(String),
    /// The system refused; rebuilding would not help.
    #[error("{0}")]
    System(io::Error),
    /// The override is not in this program.
    #[error("sled's flush does not reach the disk in this program")]
    NoOverride,
}
