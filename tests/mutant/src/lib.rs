//! Bugs planted on purpose, so that the simulation can show that it would find them.
//!
//! A site in the code asks [`planted!`] whether its bug is there. Without the feature `planting`,
//! in every build but that of `cargo xtask mutants`, the macro is the word `false`: neither a check
//! nor the bug's name is in the program (a test looks). With it, one bug at a time is planted in one
//! thread by [`plant`].

#![forbid(unsafe_code)]

/// True when the bug of this name is planted in this thread.
#[cfg(feature = "planting")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::is_planted(concat!("mutant: ", $name))
    };
}

/// True when the bug of this name is planted in this thread; here, never.
#[cfg(not(feature = "planting"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

#[cfg(feature = "planting")]
mod planting {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread, or none; names are those of [`planted!`](crate::planted) with
    /// `mutant: ` before them.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }

    /// What [`planted!`](crate::planted) asks.
    pub fn is_planted(name: &str) -> bool {
        PLANTED.get() == Some(name)
    }
}

#[cfg(feature = "planting")]
pub use planting::{is_planted, plant};
