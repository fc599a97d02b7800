use std::collections::{BTreeSet, VecDeque};

use super::*;
use eternaltcp_tls::Identity;

fn ms(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn source(number: u32) -> IpAddr {
    IpAddr::V4(number.into())
}

fn door(start: usize, full: usize) -> Door {
    Door::new(DoorLimits {
        startups: MaxStartups { start, rate: 30, full },
        per_source: 4,
        known: 8,
        penalties: Some(PenaltyRange::default()),
    })
}

fn key() -> PublicKey {
    Identity::generate().unwrap().public_key()
}

/// Adds a connection; returns which one was dropped.
fn enter(door: &mut Door, now: Time, from: u32) -> (u64, Option<u64>) {
    match door.arrive(now, source(from), || 99) {
        Arrival::Enters { number, evicted } => (number, evicted.map(|(number, _)| number)),
        Arrival::Rejected(limit) => panic!("{limit:?}"),
    }
}

#[test]
fn on_a_tie_the_oldest_goes_and_never_the_newcomer() {
    let mut door = door(3, 3);
    let numbers: Vec<u64> = (1..=3).map(|from| enter(&mut door, ms(0), 10 - from).0).collect();
    for (from, oldest) in (100..).zip(numbers) {
        assert_eq!(enter(&mut door, ms(1), from).1, Some(oldest));
        assert_eq!(door.waiting(), 3);
    }
}

#[test]
fn the_fullest_source_makes_room_and_a_full_source_for_itself() {
    let mut door = door(6, 6);
    let (honest, _) = enter(&mut door, ms(0), 1);
    let flood: Vec<u64> = (0..4).map(|_| enter(&mut door, ms(1), 2).0).collect();
    assert_eq!(enter(&mut door, ms(2), 2).1, Some(flood[0]), "its own limit");
    enter(&mut door, ms(3), 3);
    assert_eq!(enter(&mut door, ms(4), 4).1, Some(flood[1]));
    assert!(door.leave_strangers(source(1), honest));
}

#[test]
fn the_further_one_has_come_the_later_it_goes() {
    let mut door = door(5, 5);
    door.known_free = 0;
    door.set_neighbours([(source(2), 1)].into());
    let (proved, _) = enter(&mut door, ms(0), 1);
    let (neighbour, _) = enter(&mut door, ms(0), 2);
    let (waiting, _) = enter(&mut door, ms(0), 3);
    let (asking, _) = enter(&mut door, ms(0), 4);
    let (unknown, _) = enter(&mut door, ms(0), 5);
    assert!(!door.recognise(source(1), proved, &key()));
    door.ask(source(4), asking);
    door.ask(source(2), neighbour);
    door.reject(source(5), unknown);
    door.set_neighbours((100..200).map(|from| (source(from), 1)).collect());
    let arrivals = [1, 1, 1, 1000, 1001].into_iter().zip(100..);
    let order: Vec<_> =
        arrivals.map(|(at, from)| enter(&mut door, ms(at), from).1.unwrap()).collect();
    // The newcomers are neighbours, like the second.
    assert_eq!(order[..4], [unknown, asking, waiting, neighbour]);
    assert_ne!(order[4], proved);
}

#[test]
fn from_the_start_on_waiting_connections_are_dropped_at_random() {
    let mut door = door(10, 20);
    for from in 0..10 {
        let arrival = door.arrive(ms(0), source(from), || panic!("nothing to decide"));
        assert!(matches!(arrival, Arrival::Enters { evicted: None, .. }));
    }
    let throws = |door: &mut Door, now, dice| match door.arrive(now, source(99), || dice) {
        Arrival::Enters { number, evicted } => {
            door.leave_strangers(source(99), number);
            evicted.map(|(victim, _)| victim)
        }
        Arrival::Rejected(limit) => panic!("{limit:?}"),
    };
    assert_eq!(throws(&mut door, ms(999), 0), None, "nobody has waited for long");
    assert_eq!(throws(&mut door, ms(1000), 30), None);
    assert_eq!(throws(&mut door, ms(1000), 29), Some(0));
    assert_eq!(door.waiting(), 9);
    let startups = MaxStartups { start: 10, rate: 30, full: 20 };
    let chances = [9, 10, 15, 19, 20, 21].map(|waiting| startups.chance(waiting));
    assert_eq!(chances, [0, 30, 65, 93, 100, 100]);
}

#[test]
fn a_source_with_penalties_has_few_places_and_none_in_a_crowd_unless_a_client_is_there() {
    let mut door = door(4, 8);
    (0..3).for_each(|_| door.penalise(ms(0), source(1), Offence::TooSlow));
    let (first, evicted) = enter(&mut door, ms(0), 1);
    assert_eq!(evicted, None);
    let (_, evicted) = enter(&mut door, ms(1), 1);
    assert_eq!(evicted, Some(first), "one place of four");
    for from in 2..5 {
        enter(&mut door, ms(2), from);
    }
    let arrival = door.arrive(ms(3), source(1), || 99);
    assert_eq!(arrival, Arrival::Rejected(Limit::Penalty));
    door.set_neighbours([(source(1), 1)].into());
    assert!(matches!(door.arrive(ms(3), source(1), || 99), Arrival::Enters { .. }));
    door.set_neighbours(BTreeMap::new());
    assert!(matches!(door.arrive(ms(60_000), source(1), || 99), Arrival::Enters { .. }));
}

#[test]
fn a_known_key_takes_no_place_of_a_stranger_and_no_key_takes_all_places_of_known_keys() {
    let mut door = door(4, 4);
    let (busy, other) = (key(), key());
    for from in 0..8 {
        let (number, _) = enter(&mut door, ms(0), from);
        assert_eq!(door.recognise(source(from), number, &busy), from < 4);
    }
    assert_eq!((door.known_free, door.waiting()), (4, 4));
    let (number, evicted) = enter(&mut door, ms(0), 9);
    assert!(evicted.is_some());
    assert!(door.recognise(source(9), number, &other));
    (0..4).for_each(|_| door.leave_known(&busy));
    door.leave_known(&other);
    assert_eq!((door.known_free, door.known.len()), (8, 0));
}

#[test]
fn a_source_of_clients_with_tunnels_has_a_place_for_each_that_comes_back() {
    let mut door = door(100, 100);
    door.set_neighbours([(source(1), 50)].into());
    for _ in 0..54 {
        assert_eq!(enter(&mut door, ms(0), 1).1, None);
    }
    assert_eq!(enter(&mut door, ms(0), 1).1, Some(0));
}

#[test]
fn clients_that_return_at_once_rarely_displace_each_other() {
    let mut door = door(3, 3);
    door.set_neighbours((1..=9).map(|from| (source(from), 1)).collect());
    let first = enter(&mut door, ms(0), 1).0;
    let numbers = [2, 3].map(|from| enter(&mut door, ms(500), from).0);
    let arrive = |door: &mut Door, now, from, dice| door.arrive(now, source(from), || dice);
    assert_eq!(arrive(&mut door, ms(600), 4, LUCKY), Arrival::Rejected(Limit::Startups));
    let stranger = arrive(&mut door, ms(600), 77, LUCKY);
    assert_eq!(stranger, Arrival::Rejected(Limit::Startups), "nor do strangers displace them");
    // A connection that has waited for a second is hardly that of a client that returns.
    let evicts = |arrival, victim| match arrival {
        Arrival::Enters { evicted, .. } => evicted == Some((victim, Limit::Startups)),
        Arrival::Rejected(_) => false,
    };
    assert!(evicts(arrive(&mut door, ms(1000), 5, 99), first));
    assert!(evicts(arrive(&mut door, ms(1100), 6, LUCKY - 1), numbers[0]), "by luck");
    // Strangers make room first.
    assert!(door.leave_strangers(source(3), numbers[1]));
    let stranger = enter(&mut door, ms(1100), 78).0;
    assert!(evicts(arrive(&mut door, ms(1100), 7, 99), stranger));
}

/// All clients of a node come back at once, four times as many as it has places, and again after a
/// second if they are dropped. The node does one piece of work each millisecond, and each client
/// needs two.
#[test]
fn a_node_is_not_busy_in_vain_when_all_of_its_clients_return_at_once() {
    const CLIENTS: u32 = 2048;
    let mut door = door(256, 512);
    door.set_neighbours((0..CLIENTS).map(|from| (source(from), 1)).collect());
    let mut arrivals: BTreeSet<(u64, u32)> = (0..CLIENTS).map(|from| (0, from)).collect();
    // The handshakes in progress, also those of dropped clients: only when their turn comes is it known
    // that they are gone.
    let mut work: VecDeque<(u32, u64, bool)> = VecDeque::new();
    let (mut served, mut tick, mut dice) = (0, 0, 0);
    let needed = u64::from(CLIENTS) * 2;
    while served < CLIENTS {
        tick += 1;
        assert!(tick < needed * 2, "{served} of {CLIENTS} are served");
        while arrivals.first().is_some_and(|(at, _)| *at <= tick) {
            let (_, from) = arrivals.pop_first().expect("it is there");
            dice = (dice + 37) % 100;
            let dropped = match door.arrive(ms(tick), source(from), || dice) {
                Arrival::Rejected(_) => Some(from),
                Arrival::Enters { number, evicted } => {
                    work.push_back((from, number, false));
                    let of = |victim| work.iter().find(|(_, number, _)| *number == victim);
                    evicted.and_then(|(victim, _)| of(victim)).map(|(from, ..)| *from)
                }
            };
            arrivals.extend(dropped.map(|from| (tick + 1000 + u64::from(from) % 500, from)));
        }
        match work.pop_front() {
            Some((from, number, false)) => work.push_back((from, number, true)),
            Some((from, number, true)) => {
                served += u32::from(door.leave_strangers(source(from), number));
            }
            None => {}
        }
    }
}

/// Strangers from any number of sources, for a minute: each keeps its place, and returns when it
/// has lost it. An honest client needs 300 ms to prove its key.
#[test]
fn honest_clients_pass_a_flood_of_strangers_from_thousands_of_sources() {
    let mut door = Door::new(DoorLimits {
        startups: MaxStartups::default().within(512),
        per_source: 64,
        known: 64,
        penalties: Some(PenaltyRange::default()),
    });
    let user = key();
    let mut dice = 0;
    let mut honest: Vec<(Time, IpAddr, u64)> = Vec::new();
    let (mut came, mut passed) = (0, 0);
    for tick in 0..60_000_u64 {
        let now = ms(tick);
        // One per millisecond, from 5,000 sources in turn.
        dice = (dice + 37) % 100;
        let flood = source(u32::try_from(tick % 5_000).unwrap());
        if let Arrival::Enters { evicted: Some((victim, _)), .. } = door.arrive(now, flood, || dice)
        {
            honest.retain(|(_, _, number)| *number != victim);
        }
        if tick % 100 == 0 {
            let from = source(0x0a00_0000 + u32::try_from(tick).unwrap());
            let Arrival::Enters { number, evicted } = door.arrive(now, from, || dice) else {
                panic!("it did nothing wrong")
            };
            honest.retain(|(_, _, number)| evicted.is_none_or(|(victim, _)| *number != victim));
            honest.push((now, from, number));
            came += 1;
        }
        honest.retain(|(since, from, number)| {
            let proves = now.since(*since) >= Duration::from_millis(300);
            if proves {
                assert!(door.recognise(*from, *number, &user));
                door.leave_known(&user);
                passed += 1;
            }
            !proves
        });
        assert!(door.waiting() <= 512);
    }
    assert!(passed + honest.len() == came, "{passed} of {came}");
}

#[test]
fn the_setting_is_read_as_it_is_written() {
    for text in ["512:30:1024", "1:100:1"] {
        assert_eq!(text.parse::<MaxStartups>().unwrap().to_string(), text);
    }
    for text in
        ["", "10", "10:30", "10:30:5", "0:30:10", "10:0:20", "10:101:20", "a:b:c", "1:2:3:4"]
    {
        assert!(text.parse::<MaxStartups>().is_err(), "{text:?}");
    }
    let within = MaxStartups::default().within(32);
    assert_eq!((within.start, within.full), (16, 32));
}
