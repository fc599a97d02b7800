use std::sync::Arc;

use super::*;
use crate::driver::{DriverCommand, channel};
use eternaltcp_tls::Identity;
use tokio::time::advance;

fn key() -> PublicKey {
    Identity::generate().unwrap().public_key()
}

fn entry(user: &PublicKey, own: &PublicKey, name: &str, born: u64) -> TunnelEntry {
    let instance = Instance { name: name.into(), ..Instance::default() };
    let from = IpAddr::from([127, 0, 0, 1]);
    TunnelEntry::new(channel(1).0, user.clone(), own.clone(), instance, from, Epoch(born))
}

fn insert(registry: &Registry, number: u8, entry: TunnelEntry) -> Result<TunnelEntry, Refusal> {
    registry.insert(
        TunnelId([number; 16]),
        entry,
        &ServerLimits::default(),
        &Notices::new(Arc::default()),
    )
}

#[test]
fn a_tunnel_grows_while_there_is_memory_and_while_it_lives() {
    let (registry, limits) = (Registry::default(), ServerLimits::default());
    let id = TunnelId([1; 16]);
    let first = insert(&registry, 1, entry(&key(), &key(), "a", 1)).unwrap();
    assert_eq!(registry.grow(id, &limits), Some(first.limit() * 2));
    let small = ServerLimits { memory: first.limit() * 8, ..limits.clone() };
    assert_eq!(registry.grow(id, &small), None, "it would leave too little");
    registry.remove(id);
    assert_eq!(registry.grow(id, &limits), None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_detached_tunnel_without_sessions_makes_room_for_a_new_client_of_its_key() {
    let registry = Registry::default();
    let limits = ServerLimits { tunnels_per_key: 1, ..ServerLimits::default() };
    let allowance = allowance();
    let add = |number: u8, user: &PublicKey| {
        let entry = entry(user, &key(), &number.to_string(), 1);
        registry
            .insert(TunnelId([number; 16]), entry, &limits, &Notices::new(Arc::default()))
            .is_ok()
    };
    let (user, other) = (key(), key());
    assert!(add(1, &user) && add(2, &other));
    registry.end_detached(Duration::ZERO, &allowance, |_, _| 64);
    assert!(!add(3, &user), "the first may be about to attach");
    advance(MAKES_ROOM_AFTER).await;
    assert!(add(3, &user));
    assert!(!registry.has(TunnelId([1; 16])) && registry.has(TunnelId([2; 16])));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_others_of_its_client_outlive_ends_if_its_own_end_closed_it() {
    let registry = Registry::default();
    let (user, allowance) = (key(), allowance());
    let [mut lost, mut killed, mut live] =
        ["lost", "killed", "live"].map(|name| entry(&user, &key(), name, 1));
    let commands: Vec<_> = [&mut lost, &mut killed, &mut live]
        .into_iter()
        .zip(1..)
        .map(|(entry, number)| {
            let (handle, commands) = channel(1);
            entry.handle = handle;
            entry.shared.set_sessions(1);
            insert(&registry, number, entry.clone()).unwrap();
            commands
        })
        .collect();
    let [mut lost_hears, mut killed_hears, _] = <[_; 3]>::try_from(commands).unwrap();
    live.shared.set_attached(true);
    lost.note_end(false);
    killed.note_end(true);
    let second = Duration::from_secs(1);
    for _ in 0..=allowance.keep_ghosts.as_secs() {
        assert!(killed_hears.try_recv().is_err(), "not yet");
        registry.end_detached(second, &allowance, |_, _| 64);
        advance(second).await;
    }
    assert!(matches!(killed_hears.try_recv(), Ok(DriverCommand::Close(Closing::Expired))));
    assert!(lost_hears.try_recv().is_err(), "its client may be stopped, or elsewhere");
    registry.end_detached(second, &allowance, |_, _| 64);
    assert!(killed_hears.try_recv().is_err(), "it was told");
}

fn allowance() -> DetachedLimits {
    let keep_ghosts = Duration::from_secs(600);
    DetachedLimits { keep: Duration::MAX, keep_ghosts, memory: 0 }
}

#[tokio::test(start_paused = true)]
async fn a_live_tunnel_is_not_a_ghost_of_another_boot_and_a_silent_one_is() {
    let registry = Registry::default();
    let user = key();
    let of_boot = |boot: &str| {
        let mut entry = entry(&user, &key(), "same", 1);
        entry.instance.boot = boot.into();
        entry
    };
    let first = insert(&registry, 1, of_boot("a")).unwrap();
    first.shared.set_attached(true);
    let second = of_boot("b");
    let ask = |entry: &TunnelEntry| {
        let found = registry.replace_ghosts(&user, &entry.own, &entry.instance, entry.born());
        found.unwrap().len()
    };
    assert_eq!(ask(&second), 1);
    let second = insert(&registry, 2, second).unwrap();
    second.shared.set_attached(true);
    let again = insert(&registry, 3, of_boot("a")).unwrap_err();
    assert_eq!(again.code, RefusalCode::NameTaken);
    first.shared.set_attached(false);
    assert_eq!(ask(&of_boot("c")), 2, "its client may be on the move");
    registry.end_detached(Duration::ZERO, &allowance(), |_, _| 64);
    advance(JUST_NOW).await;
    assert_eq!(ask(&of_boot("c")), 1);
    assert!(!registry.has(TunnelId([1; 16])) && registry.has(TunnelId([2; 16])));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_with_sessions_whose_process_may_return_is_not_a_ghost() {
    let registry = Registry::default();
    let user = key();
    let first = insert(&registry, 1, entry(&user, &key(), "same", 1)).unwrap();
    let second = entry(&user, &key(), "same", 2);
    let ask = || {
        let found = registry.replace_ghosts(&user, &second.own, &second.instance, second.born());
        found.unwrap().len()
    };
    first.shared.set_sessions(1);
    first.shared.set_attached(true);
    first.shared.set_silent(true);
    assert_eq!(ask(), 1, "its process may be starting a worker");
    first.shared.set_attached(false);
    assert_eq!(ask(), 1, "that worker is about to return");
    advance(JUST_NOW - Duration::from_millis(1)).await;
    assert_eq!(ask(), 1);
    first.shared.set_attached(true);
    assert_eq!(ask(), 1, "it has returned");
    first.shared.set_attached(false);
    assert_eq!(ask(), 1);
    advance(JUST_NOW).await;
    assert_eq!(ask(), 0, "its process is gone");
    let third = insert(&registry, 3, entry(&user, &key(), "same", 1)).unwrap();
    third.shared.set_attached(true);
    third.shared.set_attached(false);
    assert_eq!(ask(), 0, "nothing is lost without sessions");
}

#[tokio::test]
async fn a_request_that_was_stuck_on_its_way_ends_no_later_tunnel() {
    let registry = Registry::default();
    let (user, own) = (key(), key());
    let later = insert(&registry, 1, entry(&user, &own, "a", 5)).unwrap();
    let ask = |epoch| registry.replace_ghosts(&user, &own, &later.instance, Epoch(epoch));
    assert_eq!(ask(4).unwrap_err().code, RefusalCode::Stale);
    assert!(registry.find(TunnelId([1; 16]), &own).is_some());
    assert!(ask(6).unwrap().is_empty());
    assert!(registry.find(TunnelId([1; 16]), &own).is_none(), "its answer was lost");
}
