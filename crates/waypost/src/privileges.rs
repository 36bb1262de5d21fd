//! Ports below 1024 without a relay that runs as root: bound first, then given up what binds them;
//! or bound by the service manager.

use std::ffi::CString;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail, ensure};
use listenfd::ListenFd;
use nix::unistd::{self, Gid, Group, Uid, User};
use waypost_config::{Door, Process, Startup};

/// Sockets the service manager has opened for these doors, by the doors' names. A socket belongs to
/// the door it is named after (`FileDescriptorName=` of systemd), else to the one with its address.
///
/// To be called once, and before there is another thread: it takes the environment's variables
/// `LISTEN_FDS` and `LISTEN_PID` away, so that no child believes they are meant for it.
///
/// # Errors
/// When a socket is no listening TCP socket or belongs to no door: mail sent there would be taken
/// by nobody.
pub fn activated(doors: &[Door]) -> Result<Vec<(String, TcpListener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for number in 0..given.len() {
        let socket = given
            .take_tcp_listener(number)
            .with_context(|| format!("socket {number} of the service manager"))?
            .with_context(|| format!("socket {number} of the service manager is gone"))?;
        let name = names.get(number).copied().unwrap_or_default();
        let address = socket.local_addr()?;
        let Some(door) = door_of(doors, name, address) else {
            bail!(
                "the service manager gives a socket '{name}' at {address}, and no listener has \
                 that name or address; put FileDescriptorName= with a listener's name in its unit"
            );
        };
        if sockets.iter().any(|(taken, _)| taken == door) {
            bail!("the service manager gives two sockets for listener '{door}'; it needs one");
        }
        sockets.push((door.to_owned(), socket));
    }
    Ok(sockets)
}

fn door_of<'a>(doors: &'a [Door], name: &str, address: SocketAddr) -> Option<&'a str> {
    let named = doors.iter().find(|door| door.config.name == name);
    let door = named.or_else(|| doors.iter().find(|door| is_at(door.place.tcp(), address)))?;
    Some(&door.config.name)
}

/// Whether a socket at `bound` serves who is configured to listen on `wanted`: systemd listens on
/// all addresses by way of `[::]`.
fn is_at(wanted: Option<SocketAddr>, bound: SocketAddr) -> bool {
    let Some(wanted) = wanted else { return false };
    let everywhere = wanted.ip().is_unspecified() && bound.ip().is_unspecified();
    wanted == bound || (everywhere && wanted.port() == bound.port())
}

/// Becomes the user and group of the configuration, for good. Does nothing where none is named or
/// they are the present ones.
///
/// To be called when all ports are bound and before there is another thread or an open spool. (The
/// C library would change threads that exist too; nothing here needs to rely on that.)
///
/// # Errors
/// When the user or group does not exist, when only root could do this and we are not root, and
/// when afterwards the privileges are not really gone.
pub fn drop(startup: &Startup) -> Result<()> {
    let Some(identity) = Identity::of(&startup.process)? else { return Ok(()) };
    if identity.is_present() {
        return Ok(());
    }
    ensure!(
        Uid::effective().is_root(),
        "[process] names {identity}, and only root can become that; start waypost as root, or as \
         that user, or remove [process]"
    );
    identity.assume().with_context(|| format!("cannot become {identity}"))?;
    identity.verify()
}

/// Who to be.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    user: Option<(String, Uid)>,
    group: (String, Gid),
}

impl Identity {
    fn of(process: &Process) -> Result<Option<Identity>> {
        let user = process.user.as_deref().map(find_user).transpose()?;
        let group = match (&process.group, &user) {
            (Some(name), _) => (name.clone(), find_group(name)?),
            (None, Some(user)) => (group_name(user.gid), user.gid),
            (None, None) => return Ok(None),
        };
        Ok(Some(Identity { user: user.map(|user| (user.name, user.uid)), group }))
    }

    fn is_present(&self) -> bool {
        let user = self.user.as_ref().is_none_or(|(_, uid)| *uid == Uid::effective());
        user && self.group.1 == Gid::effective()
            && !(self.gives_up_root() && Uid::current().is_root())
    }

    fn gives_up_root(&self) -> bool {
        self.user.as_ref().is_some_and(|(_, uid)| !uid.is_root())
    }

    /// Groups first: afterwards there is no right to change them.
    fn assume(&self) -> nix::Result<()> {
        let (_, gid) = self.group;
        match &self.user {
            Some((name, _)) => supplementary(name, gid)?,
            None => unistd::setgroups(&[gid])?,
        }
        unistd::setgid(gid)?;
        self.user.as_ref().map_or(Ok(()), |(_, uid)| unistd::setuid(*uid))
    }

    /// Trusts nothing: a relay that believes it is harmless and is root is the worst of all.
    fn verify(&self) -> Result<()> {
        let gid = self.group.1;
        let groups = unistd::getresgid()?;
        ensure!(
            (groups.real, groups.effective, groups.saved) == (gid, gid, gid),
            "the system said yes to becoming {self}, and the group is another; not starting"
        );
        let Some((_, uid)) = self.user else { return Ok(()) };
        let users = unistd::getresuid()?;
        ensure!(
            (users.real, users.effective, users.saved) == (uid, uid, uid),
            "the system said yes to becoming {self}, and the user is another; not starting"
        );
        ensure!(
            !self.gives_up_root() || unistd::setuid(Uid::from_raw(0)).is_err(),
            "became {self}, and could become root again; not starting"
        );
        Ok(())
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((name, _)) = &self.user {
            write!(f, "user {name}, ")?;
        }
        write!(f, "group {}", self.group.0)
    }
}

/// The groups that the user is in, and `gid`.
fn supplementary(user: &str, gid: Gid) -> nix::Result<()> {
    let user = CString::new(user).map_err(|_| nix::errno::Errno::EINVAL)?;
    unistd::initgroups(&user, gid)
}

fn find_user(name: &str) -> Result<User> {
    User::from_name(name)
        .with_context(|| format!("cannot look up the user '{name}' of [process]"))?
        .with_context(|| format!("there is no user '{name}', whom [process] names"))
}

fn find_group(name: &str) -> Result<Gid> {
    let group = Group::from_name(name)
        .with_context(|| format!("cannot look up the group '{name}' of [process]"))?
        .with_context(|| format!("there is no group '{name}', which [process] names"))?;
    Ok(group.gid)
}

/// For messages only.
fn group_name(gid: Gid) -> String {
    Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use waypost_inbound::{ListenerConfig, ListenerKind, Place};

    use super::*;

    fn door(name: &str, address: &str) -> Door {
        let config = ListenerConfig { name: name.into(), kind: ListenerKind::Relay };
        Door { config, place: Place::Tcp(address.parse().unwrap()) }
    }

    #[test]
    fn a_socket_goes_to_its_name_else_to_its_address() {
        let doors = [door("in", "0.0.0.0:25"), door("users", "192.0.2.1:587")];
        let at = |name, address: &str| door_of(&doors, name, address.parse().unwrap());
        assert_eq!(at("users", "0.0.0.0:25"), Some("users"));
        assert_eq!(at("waypost.socket", "[::]:25"), Some("in"));
        assert_eq!(at("", "192.0.2.1:587"), Some("users"));
        assert_eq!(at("unknown", "0.0.0.0:587"), None);
    }

    #[test]
    fn nobody_named_is_nobody_to_become() {
        assert_eq!(Identity::of(&Process::default()).unwrap(), None);
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let process = Process { user: Some("no-such-user-here".into()), group: None };
        let error = Identity::of(&process).unwrap_err().to_string();
        assert!(error.contains("'no-such-user-here'"), "{error}");
    }

    #[test]
    fn who_we_are_already_needs_no_rights() {
        let name = User::from_uid(Uid::effective()).unwrap().unwrap().name;
        let group = Group::from_gid(Gid::effective()).unwrap().unwrap().name;
        let process = Process { user: Some(name), group: Some(group) };
        assert!(Identity::of(&process).unwrap().unwrap().is_present());
    }
}
