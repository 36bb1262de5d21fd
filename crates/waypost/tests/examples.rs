//! The example configurations are good, and mean what they say: each is loaded with its paths led
//! to files made here, and its description in words is compared.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use waypost_config::{Settings, words};
use waypost_inbound::UsersFile;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The key of the DNS root from 2017 on (IANA's trust anchor 20326).
const ROOT_KEY: &str = ". 172800 IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";

/// The first group of this machine.
fn a_group() -> String {
    let groups = fs::read_to_string("/etc/group").unwrap();
    groups.split(':').next().unwrap().to_owned()
}

/// A revocation list without anything in it.
fn revoking_nothing() -> String {
    let issuer = rcgen::Issuer::new(Default::default(), rcgen::KeyPair::generate().unwrap());
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

/// A machine on which everything is there that an example names.
struct Machine(TempDir);

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let pair = rcgen::generate_simple_self_signed(["relay.example.org".to_owned()]).unwrap();
        for name in ["fullchain.pem", "corp-ca.pem", "authorities.pem"] {
            fs::write(at(name), pair.cert.pem()).unwrap();
        }
        fs::write(at("corp-ca.crl"), revoking_nothing()).unwrap();
        fs::write(at("privkey.pem"), pair.signing_key.serialize_pem()).unwrap();
        for name in ["provider.password", "smarthost.password"] {
            fs::write(at(name), "secret\n").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(at("root.key"), format!("{ROOT_KEY}\n")).unwrap();
        fs::write(at("replies.toml"), block("docs/replies.md")).unwrap();
        UsersFile::load_or_empty(&at("users")).unwrap().add("alice", "correct horse").unwrap();
        Machine(directory)
    }

    /// What `waypost check` says of a configuration.
    fn check(&self, text: &str) -> String {
        let here = self.0.path().display();
        let text = text
            .replace("/etc/waypost/", &format!("{here}/"))
            .replace("/var/spool/waypost", &format!("{here}/spool"))
            .replace("/var/lib/waypost/spool", &format!("{here}/spool"))
            .replace("user = \"waypost\"", "user = \"nobody\"")
            .replace("group = \"waypost\"", &format!("group = \"{}\"", a_group()));
        let file = self.0.path().join("waypost.toml");
        fs::write(&file, text).unwrap();
        let settings = Settings::load(&file).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        words::describe(&settings)
    }
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Loads an example; its description must have these lines, and say nothing else about who may
/// relay.
fn example(name: &str, who: &[&str], where_to: &[&str]) {
    let said = Machine::new().check(&read(&format!("examples/{name}/waypost.toml")));
    assert_eq!(part(&said, "Who may relay"), who, "{said}");
    assert_eq!(part(&said, "Where mail goes"), where_to, "{said}");
}

/// The lines under a heading.
fn part<'a>(said: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = said.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

#[test]
fn the_office_relays_for_users_and_devices() {
    example(
        "office-smarthost",
        &[
            "1 user, once logged in: to anybody",
            "peers in 192.168.10.0/24, fd12:3456:789a:10::/64: to anybody",
            "everybody else: only to office.example",
        ],
        &[
            "office.example: 192.168.10.5:25, TLS where offered",
            "*: smtp.provider.example:587, only with TLS and a certificate that proves the name, \
             after logging in",
        ],
    );
}

#[test]
fn the_application_relays_for_its_networks_alone() {
    example(
        "application-relay",
        &[
            "peers in 127.0.0.1/32, 10.20.0.0/16: to anybody",
            "everybody else: nobody but postmaster",
        ],
        &[
            "*: smtp.eu.provider.example:587, else smtp.us.provider.example:465 (TLS from the first \
           byte), only with TLS and a certificate that proves the name, after logging in",
        ],
    );
}

#[test]
fn the_gateway_takes_mail_for_its_own_domains() {
    example(
        "internal-gateway",
        &[
            "peers in 10.2.0.11/32, 10.2.0.12/32: to anybody",
            "everybody else: only to corp.example, *.corp.example, partner.example",
        ],
        &[
            "corp.example: mail-a.corp.example:25, else mail-b.corp.example:25, only with TLS and \
             a certificate that proves the name",
            "*.corp.example: the domain's own mail exchangers (MX), only with TLS",
            "partner.example: 10.9.0.3:25, never with TLS",
            "*: 10.1.0.5:25, only with TLS",
        ],
    );
}

#[test]
fn every_example_is_tried_here() {
    let entries = fs::read_dir(root().join("examples")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("waypost.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    // Plugins have tests of their own: they are no configurations.
    names.retain(|name| name != "plugins");
    assert_eq!(names, ["application-relay", "internal-gateway", "office-smarthost"]);
}

/// The first block of TOML in a document, or behind the heading that tells where all of it is.
fn block(document: &str) -> String {
    let text = read(document);
    let text = text.split_once("\n## Everything at once\n").map_or(&*text, |(_, rest)| rest);
    let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("{document} has no TOML block")).to_owned()
}

#[test]
fn the_documented_configuration_is_one() {
    let said = Machine::new().check(&block("docs/configuration.md"));
    assert!(said.contains("everybody else: only to example.org, *.example.org"), "{said}");
}

#[test]
fn the_ten_lines_of_the_readme_mean_what_it_says() {
    let text = block("README.md");
    assert_eq!(text.lines().count(), 10);
    let said = Machine::new().check(&text);
    assert_eq!(
        part(&said, "Who may relay"),
        ["peers in 192.168.10.0/24: to anybody", "everybody else: nobody but postmaster"]
    );
    for told in part(&said, "Who may relay").into_iter().chain(part(&said, "Where mail goes")) {
        assert!(read("README.md").contains(told), "the README does not say «{told}»");
    }
}

/// What the README has a newcomer write is a file of the tree, which `cargo xtask guests` compiles.
#[test]
fn the_plugin_of_the_readme_is_the_one_that_is_compiled() {
    let source = read("examples/plugins/rust-minimal/src/lib.rs");
    let code = source.split_once("\n\n").unwrap().1;
    assert!(read("README.md").contains(&format!("```rust\n{code}```")), "another plugin");
    assert!(code.lines().count() <= 32, "the README promises thirty lines");
}

/// The configuration that goes with it is one, but for the place of the component.
#[test]
fn the_plugin_of_the_readme_is_granted_what_it_needs() {
    let readme = read("README.md");
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).collect();
    let block = blocks[1].split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (file, component) =
        (directory.path().join("waypost.toml"), directory.path().join("tagger.wasm"));
    fs::write(&component, b"\0asm\x0d\0\x01\0").unwrap();
    let place = format!("{:?}", component.display().to_string());
    fs::write(&file, block.replace("\"tagger.wasm\"", &place)).unwrap();
    let settings = Settings::load(&file).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let plugins = settings.reload.policy.plugins;
    assert_eq!(plugins.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(), ["tagger"]);
    assert_eq!(plugins[0].grants.edit.remove, ["Subject"]);
}
