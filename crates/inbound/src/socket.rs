//! Sockets that peers come in by: TCP, or a Unix socket where the system says who the peer is.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::Place;
use crate::stream::Stream;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket that is bound and listens.
#[derive(Debug)]
pub enum Bound {
    /// At an address and port.
    Tcp(std::net::TcpListener),
    /// In the file system.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when nobody listens there any more.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    mode: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that cannot be removed is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Bound {
    /// A socket that listens at `place`.
    ///
    /// # Errors
    /// When the system refuses, or another program answers there.
    pub fn bind(place: &Place) -> io::Result<Bound> {
        match place {
            Place::Tcp(address) => listen(*address).map(Bound::Tcp),
            Place::Unix { path, mode } => listen_unix(path, *mode),
        }
    }
}

/// A socket that listens at `address`. An IPv6 address takes IPv6 alone, so that `0.0.0.0` and
/// `[::]` can stand beside each other.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).map_err(|error| explained(address, error))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The system's two usual refusals, with what to do.
fn explained(address: SocketAddr, error: io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another server is there",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 take root, CAP_NET_BIND_SERVICE or socket activation"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {hint}"))
}

/// A socket file that nobody answers on is left over from a crash and replaced.
fn listen_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            let text = format!("{} is a file and no socket; it is left alone", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if StdUnixStream::connect(path).is_ok() {
            let text = format!("another program answers on {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        fs::remove_file(path)?;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Bound under another name and renamed, so that there is no moment with other permissions.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(&fresh)?)?;
    socket.listen(BACKLOG)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)?;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    Ok(Bound::Unix(listener, SocketFile { path: path.to_owned(), mode }))
}

/// A socket at work.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Must be called within a tokio runtime.
    pub(crate) fn open(bound: Bound) -> io::Result<(Listener, Place)> {
        match bound {
            Bound::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let place = Place::Tcp(socket.local_addr()?);
                Ok((Listener::Tcp(TcpListener::from_std(socket)?), place))
            }
            Bound::Unix(socket, file) => {
                socket.set_nonblocking(true)?;
                let place = Place::Unix { path: file.path.clone(), mode: file.mode };
                let listener = UnixListener::from_std(socket)?;
                Ok((Listener::Unix { listener, _file: file }, place))
            }
        }
    }

    /// The next peer.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, client) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let peer = Peer {
                    client: canonical(client),
                    local: canonical(socket.local_addr()?),
                    uid: None,
                };
                Ok((Stream::Plain(socket), peer))
            }
            Listener::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                let uid = Some(socket.peer_cred()?.uid());
                Ok((Stream::Unix(socket), Peer { client: here, local: here, uid }))
            }
        }
    }
}

/// An IPv4 address in IPv6 is an IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Who has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address; loopback for a program on this machine.
    pub(crate) client: SocketAddr,
    /// Our end.
    pub(crate) local: SocketAddr,
    /// The user it runs as, as the system says (SO_PEERCRED).
    pub(crate) uid: Option<u32>,
}

impl Peer {
    /// Where it is counted: a user of this machine like a network of its own, so that one of them
    /// does not shut the others out.
    pub(crate) fn counted_as(&self) -> IpAddr {
        match self.uid {
            None => self.client.ip(),
            Some(uid) => {
                let [high, low] = [(uid >> 16) as u16, uid as u16];
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, high, low, 0, 0, 0, 1))
            }
        }
    }

    /// The name of the user, when the system knows the peer. Asking may take a while: where users are
    /// kept elsewhere, so is their name.
    pub(crate) async fn user(&self) -> Option<String> {
        let uid = Uid::from_raw(self.uid?);
        let found = tokio::task::spawn_blocking(move || User::from_uid(uid)).await;
        let named = found.ok().and_then(Result::ok).flatten().map(|user| user.name);
        Some(named.unwrap_or_else(|| format!("uid-{uid}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_its_permissions_and_replaces_one_that_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Unix { path: dir.path().join("below/door.sock"), mode: 0o640 };
        let path = dir.path().join("below/door.sock");
        let first = Bound::bind(&place).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(Bound::bind(&place).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // As a crash leaves it: the file without anybody behind it.
        let Bound::Unix(listener, file) = first else { panic!("not a Unix socket") };
        drop(listener);
        assert!(path.exists());
        let second = Bound::bind(&place).unwrap();
        std::mem::forget(file);
        assert!(StdUnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(Bound::bind(&place).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn users_of_this_machine_are_counted_apart() {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let of = |uid| Peer { client: here, local: here, uid }.counted_as();
        let network = |uid| waypost_mail::network::masked(of(Some(uid)), 64);
        assert_ne!(network(0), network(33));
        assert_ne!(network(1), network(65_537));
        assert_eq!(of(None), here.ip());
    }
}
