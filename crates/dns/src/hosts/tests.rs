use super::*;

fn exchanger(preference: u16, addresses: &[&str]) -> Exchanger {
    let addresses = Ok(addresses.iter().map(|ip| ip.parse().unwrap()).collect());
    Exchanger { name: format!("mx{preference}"), preference, port: 25, ours: false, addresses }
}

fn lost(preference: u16) -> Exchanger {
    let error = DnsError::BadName("lost".into());
    Exchanger { addresses: Err(error), ..exchanger(preference, &[]) }
}

/// The preferences of what is left when we listen on 192.0.2.1:25.
fn kept(exchangers: Vec<Exchanger>) -> Result<Vec<u16>, Why> {
    let own = OwnAddresses::new(["192.0.2.1:25".parse().unwrap()], []);
    let mut random = StdRng::seed_from_u64(1);
    let found = candidates("example", exchangers, &Search::new(25, &own, 1), &mut random)?;
    Ok(found.iter().map(|host| host.preference).collect())
}

#[test]
fn only_what_is_better_than_ourselves_is_left() {
    let us = || exchanger(20, &["192.0.2.9", "192.0.2.1"]);
    let better = exchanger(10, &["192.0.2.2"]);
    let equal = exchanger(20, &["192.0.2.3"]);
    let worse = exchanger(30, &["192.0.2.4"]);
    assert_eq!(kept(vec![better, equal, us(), worse]), Ok(vec![10]));
    let behind = vec![us(), exchanger(30, &["192.0.2.4"])];
    assert_eq!(kept(behind), Err(Why::Loop("example".into())));
}

#[test]
fn who_is_called_as_we_are_is_ourselves_wherever_it_is() {
    let us = || Exchanger { ours: true, ..exchanger(20, &["198.51.100.9"]) };
    let better = exchanger(10, &["192.0.2.2"]);
    assert_eq!(kept(vec![better, exchanger(20, &["192.0.2.3"]), us()]), Ok(vec![10]));
    assert_eq!(kept(vec![us(), exchanger(30, &["192.0.2.4"])]), Err(Why::Loop("example".into())));
    let gone = Exchanger { ours: true, ..lost(20) };
    assert_eq!(kept(vec![gone]), Err(Why::Loop("example".into())), "nor does it need an address");
}

#[test]
fn what_is_lost_counts_only_before_ourselves() {
    let us = || exchanger(20, &["192.0.2.1"]);
    assert!(matches!(kept(vec![lost(10), us()]), Err(Why::DnsFailed(_))));
    assert_eq!(kept(vec![us(), lost(30)]), Err(Why::Loop("example".into())));
    assert_eq!(kept(vec![lost(10), exchanger(20, &["192.0.2.7"])]), Ok(vec![20]));
}

#[test]
fn addresses_of_nobody_are_passed_over() {
    let nobody = exchanger(10, &["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1"]);
    assert_eq!(kept(vec![nobody]), Err(Why::NoAddress("example".into())));
    assert_eq!(kept(vec![]), Err(Why::NoAddress("example".into())));
}

#[test]
fn one_exchanger_of_several_does_not_crowd_out_the_others() {
    let many: Vec<String> = (10..40).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = kept(vec![exchanger(10, &many), exchanger(20, &["192.0.2.2"])]).unwrap();
    assert_eq!(found, [10, 10, 10, 10, 10, 20]);
    assert_eq!(kept(vec![exchanger(10, &many)]).unwrap().len(), 10);
}

#[test]
fn shuffling_keeps_the_pattern_of_families() {
    let all = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"];
    let all: Vec<IpAddr> = all.iter().map(|ip| ip.parse().unwrap()).collect();
    let mut orders = HashSet::new();
    for seed in 0..32 {
        let mut shuffled = all.clone();
        shuffle_within_families(&mut shuffled, &mut StdRng::seed_from_u64(seed));
        let same = |(a, b): (&IpAddr, &IpAddr)| a.is_ipv6() == b.is_ipv6();
        assert!(shuffled.iter().zip(&all).all(same), "{shuffled:?}");
        assert_eq!(shuffled.iter().collect::<HashSet<_>>().len(), all.len());
        orders.insert(shuffled);
    }
    assert!(orders.len() > 6, "both families are shuffled");
}
