//! Programs of others, run while the relay goes on.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// How a program ended, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) said: String,
}

/// Runs a program of this Debian package with `input` on its standard input. A minute must do.
pub(crate) async fn run(package: &str, program: &str, arguments: &[&str], input: &str) -> Ended {
    let missing = format!("{program} is not there. As root: apt-get install {package}");
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(arguments);
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended without reading: what it said tells why.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert_ne!(output.status.code(), Some(127), "{missing}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ended { success: output.status.success(), said }
    })
    .await
    .unwrap()
}
