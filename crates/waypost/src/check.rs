//! `waypost check`: the configuration in words, or every mistake in it.

use anyhow::Result;
use waypost_config::{Settings, words};

use crate::args::ConfigArgs;

/// Reads the configuration and says what it does.
///
/// # Errors
/// Every mistake there is.
pub fn check(args: &ConfigArgs) -> Result<()> {
    let settings = Settings::load(&args.config)?;
    print!("{}", words::describe(&settings));
    println!("\n{}: the configuration is good", args.config.display());
    Ok(())
}
