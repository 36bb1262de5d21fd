//! `sendmail`: the command that cron, PHP and others hand their mail to.
//!
//! It needs no rights: it speaks to the running relay through its local socket, and the system tells
//! the relay which user runs it. What is answered is in the exit status, as `sysexits.h` has it.

mod dialogue;
mod exit;
mod message;
mod options;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, net, thread};

use nix::unistd::{Uid, User};

use self::dialogue::{Daemon, Letter};
use self::exit::{Exit, Failure};
use self::message::Outgoing;
use self::options::{Mode, Options};

/// The variable that names the relay's local socket.
const SOCKET: &str = "WAYPOST_SOCKET";
/// The configuration that is asked where the socket is, if it can be read.
const CONFIG: &str = "/etc/waypost/waypost.toml";
/// Where the socket is when nobody says otherwise.
const USUAL_SOCKET: &str = "/run/waypost/submit.sock";

/// The arguments for this command, when it is what was called: by the name `sendmail`, or as
/// `waypost sendmail`.
pub fn called(arguments: &[OsString]) -> Option<&[OsString]> {
    let (name, rest) = arguments.split_first()?;
    if Path::new(name).file_name().is_some_and(|name| name == "sendmail") {
        return Some(rest);
    }
    rest.split_first().filter(|(verb, _)| *verb == "sendmail").map(|(_, rest)| rest)
}

/// Hands in what standard input holds. Problems are told on standard error.
pub fn sendmail(arguments: &[OsString]) -> ExitCode {
    let done = Options::parse(arguments).and_then(|options| match options.mode {
        Mode::Submit => submit(&options),
        Mode::Serve => serve(&options),
    });
    let exit = done.unwrap_or_else(|failure| {
        eprintln!("sendmail: {}", failure.words);
        failure.exit
    });
    exit.into()
}

/// One message. Recipients that the relay refuses do not keep it from the others.
fn submit(options: &Options) -> Result<Exit, Failure> {
    if options.recipients.is_empty() && !options.from_header {
        return Err(Failure::new(Exit::Usage, "no recipients: name them, or give -t"));
    }
    let mut outgoing = Outgoing::read(io::stdin().lock(), options.dots_are_text)?;
    let mut recipients = options.recipients.clone();
    let mut worst = Exit::Ok;
    if options.from_header {
        let (found, broken) = outgoing.recipients();
        recipients.extend(found);
        for text in broken {
            eprintln!("sendmail: '{text}' in the header is no address");
            worst = worst.or(Exit::DataError);
        }
    }
    if recipients.is_empty() {
        return Err(Failure::new(Exit::DataError, "there is no recipient in the header"));
    }
    let user = User::from_uid(Uid::current()).ok().flatten();
    let login = user.as_ref().map_or_else(|| format!("uid-{}", Uid::current()), |u| u.name.clone());
    let sender = options.sender.clone().unwrap_or_else(|| login.clone());
    let author = if sender.is_empty() { &login } else { &sender };
    outgoing.complete(author, options.full_name.clone().or_else(|| user.and_then(|u| gecos(&u))));
    let mut daemon = Daemon::greet(connect(options)?, options.verbose)?;
    let letter = Letter { sender, recipients, delivery: options.delivery.clone() };
    for (recipient, reply) in daemon.submit(&letter, &outgoing)? {
        eprintln!("sendmail: <{recipient}>: {reply}");
        worst = worst.or(Exit::of(&reply));
    }
    Ok(worst)
}

/// A dialogue in SMTP on standard input and output: that of the relay itself.
fn serve(options: &Options) -> Result<Exit, Failure> {
    let broken =
        |error: io::Error| Failure::new(Exit::IoError, format!("the dialogue broke: {error}"));
    let mut socket = connect(options)?;
    let mut to_relay = socket.try_clone().map_err(broken)?;
    thread::spawn(move || {
        // At the end of input the relay hears it, and says its last word.
        let _ = io::copy(&mut io::stdin().lock(), &mut to_relay);
        let _ = to_relay.shutdown(net::Shutdown::Write);
    });
    let mut stdout = io::stdout().lock();
    io::copy(&mut socket, &mut stdout).map_err(broken)?;
    stdout.flush().map_err(broken)?;
    Ok(Exit::Ok)
}

fn connect(options: &Options) -> Result<UnixStream, Failure> {
    let socket = socket(options)?;
    UnixStream::connect(&socket).map_err(|error| {
        let (exit, hint) = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                (Exit::NoPermission, "this user may not submit; see 'mode' of the listener")
            }
            _ => (Exit::TempFail, "is waypost running, with a listener of the kind 'local'?"),
        };
        Failure::new(
            exit,
            format!("cannot reach the relay at {}: {error}; {hint}", socket.display()),
        )
    })
}

/// `-C FILE` says where, else the variable, else the usual configuration if this user can read it.
fn socket(options: &Options) -> Result<PathBuf, Failure> {
    if let Some(file) = &options.config {
        let places = waypost_config::places(file);
        let places = places.map_err(|wrong| Failure::new(Exit::Config, wrong.to_string()))?;
        return places.local.ok_or_else(|| {
            let words = format!("{} has no listener of the kind 'local'", file.display());
            Failure::new(Exit::Config, words)
        });
    }
    if let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) {
        return Ok(PathBuf::from(socket));
    }
    let readable = fs::File::open(CONFIG).is_ok();
    let configured = readable.then(|| waypost_config::places(Path::new(CONFIG)).ok()).flatten();
    Ok(configured.and_then(|places| places.local).unwrap_or_else(|| PathBuf::from(USUAL_SOCKET)))
}

/// The user's full name, as the system has it.
fn gecos(user: &User) -> Option<String> {
    let name = user.gecos.to_str().ok()?.split(',').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_called_by_its_name_or_by_ours() {
        let called = |words: &str| {
            let all: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            called(&all).map(<[OsString]>::len)
        };
        assert_eq!(called("/usr/sbin/sendmail -t -i"), Some(2));
        assert_eq!(called("sendmail"), Some(0));
        assert_eq!(called("waypost sendmail -t"), Some(1));
        assert_eq!(called("waypost send -t"), None);
        assert_eq!(called("waypost"), None);
    }
}
