//! mail-auth turns on encrypted DNS for the whole program, and with it hickory's wish for the
//! system's certificate authorities. The resolver of the house must not need them.

use std::process::Command;

use waypost_dns::{Config, Hickory, Resolver};
use waypost_harness::zone::Zone;

#[test]
fn dns_is_asked_on_a_machine_without_certificate_authorities() {
    let nothing = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "without_authorities"])
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", nothing.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "runs in the surroundings that the test above makes"]
async fn without_authorities() {
    assert!(rustls_native_certs::load_native_certs().certs.is_empty());
    let zone = Zone::serve("$ORIGIN example.org.\nmail A 192.0.2.1\n").await;
    let config = Config { servers: vec![zone.addr], ..Config::default() };
    let resolver = Hickory::new(config).unwrap();
    let addresses = resolver.addresses("mail.example.org").await.unwrap();
    assert_eq!(addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
}
