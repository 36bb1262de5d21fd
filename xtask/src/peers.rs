//! Exim and OpenSMTPD, which Debian does not install beside Postfix, and OpenDKIM for the benchmark: unpacked from its
//! packages, with the libraries they need, each into a small root of its own under `target/peers`. They run there by
//! chroot(8), at the paths they were compiled for, and nothing of the machine changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// A root: what it is called, what is unpacked into it besides libraries, and what must then be there.
struct Root {
    name: &'static str,
    packages: &'static [&'static str],
    program: &'static str,
}

/// OpenSMTPD stores mail by a line for the shell.
const ROOTS: &[Root] = &[
    Root { name: "exim", packages: &["exim4-daemon-light"], program: "usr/sbin/exim4" },
    Root { name: "opensmtpd", packages: &["opensmtpd", "dash"], program: "usr/sbin/smtpd" },
    Root { name: "opendkim", packages: &["opendkim"], program: "usr/sbin/opendkim" },
];

/// Those that the tests need.
const TESTED: &[&str] = &["exim", "opensmtpd"];

/// In each root, written last: it is whole, and as this version of the file makes it.
const STAMP: &str = "etc/waypost-peer";
const VERSION: &str = "1\n";

/// The users of all, whose numbers mean nothing outside; `mailbox` owns what is stored.
const USERS: &str = "\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
Debian-exim:x:101:101::/var/spool/exim4:/usr/sbin/nologin
opensmtpd:x:102:102::/var/lib/opensmtpd/empty:/usr/sbin/nologin
opensmtpq:x:103:103::/var/lib/opensmtpd/empty:/usr/sbin/nologin
mailbox:x:1000:1000::/mail:/bin/sh
";
const GROUPS: &str = "\
root:x:0:
mail:x:8:
nogroup:x:65534:
Debian-exim:x:101:
opensmtpd:x:102:
opensmtpq:x:103:
mailbox:x:1000:
";
/// Who may use OpenSMTPD's control socket.
const OPENSMTPQ: u32 = 103;
/// Directories that the packages' scripts or an administrator would make, and who owns them.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0),
    ("run", 0),
    ("tmp", 0),
    ("etc/exim4", 0),
    ("etc/ssl/certs", 0),
    ("var/lib/opensmtpd/empty", 0),
    ("var/spool", 0),
    ("var/spool/exim4", 101),
    ("var/log/exim4", 101),
    ("mail", 1000),
];

/// Makes the roots of the tests where they are missing, and returns the directory they are in.
pub(crate) fn unpack() -> anyhow::Result<PathBuf> {
    make(TESTED)
}

/// Makes the root of this name if it is missing, and returns it.
pub(crate) fn root(name: &str) -> anyhow::Result<PathBuf> {
    Ok(make(&[name])?.join(name))
}

fn make(names: &[&str]) -> anyhow::Result<PathBuf> {
    let peers = crate::target().join("peers");
    let wanted = ROOTS.iter().filter(|root| names.contains(&root.name));
    let missing: Vec<&Root> = wanted.filter(|root| !root.is_whole(&peers)).collect();
    if missing.is_empty() {
        return Ok(peers);
    }
    may(&peers)?;
    fs::create_dir_all(&peers)?;
    let packages = tempfile::Builder::new().prefix("packages-").tempdir_in(&peers)?;
    let sets = match fetch(&missing, packages.path()) {
        Ok(sets) => sets,
        // The lists of packages are missing, or so old that what they name is gone.
        Err(_) => {
            crate::setup::apt_get(&["update", "-qq"])?;
            fetch(&missing, packages.path())?
        }
    };
    for (root, set) in missing.iter().zip(&sets) {
        root.make(&peers, packages.path(), set)
            .with_context(|| format!("{} cannot be unpacked", root.name))?;
    }
    Ok(peers)
}

fn may(peers: &Path) -> anyhow::Result<()> {
    let there = |program: &str| Path::new("/usr/bin").join(program).exists();
    ensure!(
        there("apt-get") && there("apt-cache") && there("dpkg-deb"),
        "the tests and the benchmark run Exim and OpenSMTPD out of Debian's packages, unpacked in {}, and this machine \
         has no apt-get or dpkg-deb: use Debian or Ubuntu (a container does) for them",
        peers.display()
    );
    ensure!(
        nix::unistd::geteuid().is_root(),
        "Exim and OpenSMTPD are not unpacked yet in {}. As root: cargo xtask setup",
        peers.display()
    );
    Ok(())
}

/// Downloads what these roots consist of; the packages of each.
fn fetch(roots: &[&Root], into: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let wanted: Vec<&str> = roots.iter().flat_map(|root| root.packages).copied().collect();
    eprintln!("unpacking: {}", wanted.join(" "));
    let output = Command::new("apt-cache")
        .args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"])
        .args(["--no-breaks", "--no-replaces", "--no-enhances"])
        .args(&wanted)
        .stdin(Stdio::null())
        .output()
        .context("apt-cache did not start")?;
    ensure!(
        output.status.success(),
        "apt-cache: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    let depends = depends(&text);
    let sets: Vec<_> = roots.iter().map(|root| closure(&depends, root.packages)).collect();
    let mut all: Vec<&str> = sets.iter().flatten().map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    let status = Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .args(all)
        .current_dir(into)
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .context("apt-get did not start")?;
    ensure!(status.success(), "apt-get download failed: see its message above");
    Ok(sets)
}

/// What each package needs, out of `apt-cache depends`: unindented a package, below it what it depends
/// on. Of alternatives the first.
fn depends(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut package, mut alternative) = ("", false);
    for line in text.lines() {
        if !line.starts_with([' ', '|']) {
            package = line.trim();
            all.entry(package).or_default();
            continue;
        }
        let Some((kind, name)) = line.trim().split_once("epends: ") else { continue };
        if !alternative && !name.starts_with('<') {
            all.entry(package).or_default().push(name);
        }
        alternative = kind.starts_with('|');
    }
    all
}

/// These packages, and all libraries they need.
fn closure(depends: &BTreeMap<&str, Vec<&str>>, packages: &[&str]) -> Vec<String> {
    let mut found: Vec<&str> = packages.to_vec();
    let mut next = 0;
    while let Some(package) = found.get(next) {
        let needs = depends.get(package).map(Vec::as_slice).unwrap_or_default();
        for library in needs {
            let is_library = library.starts_with("lib") || library.starts_with("zlib");
            if is_library && !found.contains(library) {
                found.push(library);
            }
        }
        next += 1;
    }
    found.into_iter().map(str::to_owned).collect()
}

impl Root {
    fn is_whole(&self, peers: &Path) -> bool {
        let stamp = fs::read_to_string(peers.join(self.name).join(STAMP));
        stamp.is_ok_and(|stamp| stamp == VERSION)
    }

    fn make(&self, peers: &Path, packages: &Path, set: &[String]) -> anyhow::Result<()> {
        let (root, part) = (peers.join(self.name), peers.join(format!("{}.part", self.name)));
        for old in [&root, &part] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        // Merged, as packages of today expect it and those of yesterday do not mind.
        for place in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(part.join("usr").join(place))?;
            symlink(Path::new("usr").join(place), part.join(place))?;
        }
        for package in set {
            unpack_one(&file_of(package, packages)?, &part)?;
        }
        furnish(&part)?;
        let program = part.join(self.program);
        ensure!(program.exists(), "the package brought no {}", program.display());
        fs::write(part.join(STAMP), VERSION)?;
        Ok(fs::rename(part, root)?)
    }
}

/// The file that `apt-get download` made of this package: `name_version_architecture.deb`.
fn file_of(package: &str, directory: &Path) -> anyhow::Result<PathBuf> {
    let begin = format!("{package}_");
    let files = fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))
    };
    files.into_iter().find(named).with_context(|| format!("{package} was not downloaded"))
}

/// As `dpkg-deb --extract`, but directories that are links here stay links, and nothing comes that only people read.
fn unpack_one(package: &Path, into: &Path) -> anyhow::Result<()> {
    let mut open = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb did not start")?;
    let archive = open.stdout.take().context("dpkg-deb has no output")?;
    let status = Command::new("tar")
        .args(["--extract", "--keep-directory-symlink", "--exclude=./usr/share", "--directory"])
        .arg(into)
        .stdin(archive)
        .status()
        .context("tar did not start")?;
    ensure!(open.wait()?.success() && status.success(), "{} is damaged", package.display());
    Ok(())
}

/// What is not in packages: users, a group that talks to OpenSMTPD, directories, the names of this machine, /dev/null.
fn furnish(root: &Path) -> anyhow::Result<()> {
    for (name, owner) in DIRECTORIES {
        let place = root.join(name);
        fs::create_dir_all(&place)?;
        chown(&place, Some(*owner), Some(*owner))?;
    }
    symlink("../run", root.join("var/run"))?;
    let control = root.join("usr/sbin/smtpctl");
    if control.exists() {
        chown(&control, Some(0), Some(OPENSMTPQ))?;
        fs::set_permissions(&control, fs::Permissions::from_mode(0o2555))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("etc/passwd"), USERS)?;
    fs::write(root.join("etc/group"), GROUPS)?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    // No name server: nobody listens there, and that is known at once.
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n")?;
    let made = Command::new("mknod")
        .args(["-m", "666"])
        .arg(root.join("dev/null"))
        .args(["c", "1", "3"])
        .status()
        .context("mknod did not start")?;
    ensure!(made.success(), "mknod could not make /dev/null: the tests need a root that may");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_followed_and_nothing_else() {
        let text = "\
smtpd
  PreDepends: init-system-helpers
  Depends: libssl3
 |Depends: libfirst
  Depends: libsecond
  Depends: <debconf-2.0>
    cdebconf
  Depends: adduser
libssl3
  Depends: libc6
 |Depends: debconf
  Depends: <debconf-2.0>
init-system-helpers
  Depends: libnever
libc6
  Depends: libgcc-s1
";
        let depends = depends(text);
        assert_eq!(
            closure(&depends, &["smtpd", "dash"]),
            ["smtpd", "dash", "libssl3", "libfirst", "libc6", "libgcc-s1"]
        );
    }
}
