use super::*;

fn queue() -> ReceiveQueue {
    let mut queue = ReceiveQueue::new(Seq::new(u32::MAX), 1000);
    queue.receive_opening();
    queue
}

#[test]
fn a_limit_grows_for_an_application_that_keeps_up_and_for_no_other() {
    let mut queue = queue();
    let limit = |queue: &mut ReceiveQueue| {
        queue.grow(4000);
        queue.limit
    };
    queue.receive_data(vec![1; 700].into());
    queue.receive_data(vec![1; 700].into());
    queue.deliver(700);
    queue.receive_data(vec![1; 700].into());
    queue.deliver(700);
    assert_eq!(limit(&mut queue), 1000, "another packet waits");
    queue.deliver(700);
    assert_eq!(limit(&mut queue), 2000);
    assert_eq!(limit(&mut queue), 2000, "not before it was used once more");
}

#[test]
fn what_waits_gets_memory_of_its_own_once() {
    let shared = Bytes::from(vec![1; 1000]);
    let mut queue = queue();
    queue.receive_data(shared.slice(..10));
    queue.receive_data(shared.slice(10..20));
    queue.compact();
    let own: Vec<_> = queue.packets.iter().map(|packet| packet.as_ptr()).collect();
    assert!(!own.iter().any(|at| shared.as_ptr_range().contains(at)));
    queue.deliver(10);
    queue.receive_data(shared.slice(20..30));
    queue.compact();
    assert_eq!(queue.packets[0].as_ptr(), own[1], "not copied again");
    assert!(!shared.as_ptr_range().contains(&queue.packets[1].as_ptr()));
}

#[test]
fn delivered_counts_whole_packets_and_keeps_the_offset() {
    let mut queue = queue();
    queue.receive_data(Bytes::from_static(b"hello"));
    queue.receive_data(Bytes::from_static(b"world"));
    assert!(!queue.deliver(3));
    assert_eq!((queue.delivered(), queue.next), (Seq::new(0), Seq::new(2)));
    assert!(queue.deliver(4));
    assert_eq!((queue.delivered(), queue.offset), (Seq::new(1), 2));
    assert_eq!(queue.digest, Digest::default().after(b"hello"));
    assert_eq!((queue.held, queue.waiting()), (cost(5), 3));
}

#[test]
fn the_end_is_delivered_after_the_data_and_checked() {
    let mut queue = queue();
    queue.receive_data(Bytes::from_static(b"x"));
    queue.receive_end(Digest::default().after(b"y"));
    assert!(!queue.is_corrupt(), "not looked at before the data are delivered");
    queue.deliver(1);
    assert!(queue.is_corrupt());
    assert_eq!(queue.delivered(), Seq::new(1));
}

#[test]
fn a_discarding_queue_counts_everything_as_delivered() {
    let mut queue = queue();
    queue.receive_data(Bytes::from_static(b"a"));
    queue.discard();
    queue.receive_data(Bytes::from_static(b"b"));
    assert_eq!(queue.delivered(), Seq::new(2));
    assert_eq!(queue.digest, Digest::default().after(b"a").after(b"b"));
    queue.receive_reset(Seq::new(9), Reset::new(crate::Cause::Application));
    assert_eq!((queue.delivered(), &queue.state), (Seq::new(10), &ReceiveState::DiscardedReset));
}

#[test]
fn the_limit_grows_with_use_up_to_its_bound() {
    let mut queue = queue();
    let mut grown = |used| {
        queue.used = used;
        queue.grow(1500);
        queue.limit
    };
    assert_eq!([grown(999), grown(1000), grown(9999)], [1000, 1500, 1500]);
}
