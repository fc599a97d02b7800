use super::*;
use crate::limits::cost;

const FIRST: Seq = Seq::new(u32::MAX - 1);

fn queue() -> SendQueue {
    let mut queue = SendQueue::new(FIRST, 1 << 20);
    queue.set_opening(Kind::Open, Bytes::from_static(b"\0"));
    queue
}

fn sent(queue: &mut SendQueue) -> Vec<(Kind, u32)> {
    std::iter::from_fn(|| queue.next_packet(u64::MAX))
        .map(|packet| (packet.kind, packet.seq.get()))
        .collect()
}

#[test]
fn packets_are_numbered_from_the_opening_to_the_end_across_the_wrap() {
    let mut queue = queue();
    queue.write(vec![1; MAX_PAYLOAD + 1].into());
    queue.finish();
    let expected =
        [(Kind::Open, u32::MAX - 1), (Kind::Data, u32::MAX), (Kind::Data, 0), (Kind::End, 1)];
    assert_eq!(sent(&mut queue), expected);
    assert_eq!(queue.acknowledge(Seq::new(2)), Ok(true));
    assert_eq!((&queue.state, queue.held()), (&SendState::Done, 0));
}

#[test]
fn data_that_no_peer_has_delivered_are_sent_again_from_the_opening_on() {
    let opening = || (Kind::Open, Bytes::from_static(b"\0"));
    for is_acknowledged in [false, true] {
        let mut queue = queue();
        queue.write(vec![1; MAX_PAYLOAD].into());
        queue.write(vec![2; 5000].into());
        assert_eq!(sent(&mut queue).len(), 3);
        queue.write(vec![3; 5000].into());
        queue.finish();
        if is_acknowledged {
            queue.acknowledge(FIRST.plus(1)).unwrap();
        }
        let digest = queue.numbered.digest().after(&[3; 5000]);
        assert!(queue.unsend(FIRST, opening()));
        assert!(queue.is_untransmitted() && queue.held() == 0);
        let kinds: Vec<_> = sent(&mut queue).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!((kinds[0], kinds.last()), (Kind::Open, Some(&Kind::End)));
        let data = queue.numbered.data_len();
        assert_eq!((data, queue.numbered.digest()), (MAX_PAYLOAD as u64 + 10_000, digest));
        // Data that was delivered is not sent again.
        queue.acknowledge(FIRST.plus(2)).unwrap();
        assert!(!queue.unsend(FIRST, opening()));
    }
}

#[test]
fn replay_starts_at_what_was_not_received_and_keeps_the_boundaries() {
    let mut queue = queue();
    for _ in 0..3 {
        queue.write(vec![1; 5000].into());
        sent(&mut queue);
    }
    let at_one = queue.numbered.digest_at(FIRST.plus(2), FIRST.plus(3)).unwrap();
    queue.resume(FIRST.plus(2), FIRST.plus(3), at_one).unwrap();
    assert_eq!(sent(&mut queue), [(Kind::Data, FIRST.plus(3).get())]);
    assert_eq!(queue.kept(), 2);
    assert_eq!(queue.held(), 2 * cost(5000));
}

#[test]
fn numbers_from_the_past_or_the_future_and_other_digests_do_not_fit() {
    let mut queue = queue();
    queue.write(vec![1; 5000].into());
    sent(&mut queue);
    queue.acknowledge(FIRST.plus(1)).unwrap();
    let digest = queue.numbered.base_digest();
    let mut resume = |delivered, received, digest| queue.resume(delivered, received, digest);
    assert_eq!(resume(FIRST, FIRST, digest), Err(Mismatch::Number));
    assert_eq!(resume(FIRST.plus(1), FIRST.plus(3), digest), Err(Mismatch::Number));
    assert_eq!(resume(FIRST.plus(2), FIRST.plus(1), digest), Err(Mismatch::Number));
    assert_eq!(resume(FIRST.plus(1), FIRST.plus(1), Digest::new(9)), Err(Mismatch::Digest));
    assert_eq!(resume(FIRST.plus(1), FIRST.plus(1), digest), Ok(()));
    assert_eq!(queue.acknowledge(FIRST.plus(2)), Err(Mismatch::Number), "not sent again yet");
}

#[test]
fn waiting_data_are_counted_with_and_without_a_number() {
    let mut queue = queue();
    for _ in 0..3 {
        queue.write(vec![1; 5000].into());
        sent(&mut queue);
    }
    queue.write(vec![1; 100].into());
    assert_eq!(queue.waiting(u64::MAX), 100, "what is on its way does not wait");
    queue.rewind();
    assert_eq!(queue.waiting(u64::MAX), 100 + 3 * cost(5000));
    assert!((5001..=100 + 2 * cost(5000)).contains(&queue.waiting(5001)));
}

#[test]
fn the_limit_holds_data_back_but_not_the_reset() {
    let mut queue = queue();
    queue.set_limit(cost(6000));
    queue.write(vec![1; 9000].into());
    queue.reset(Reset::new(crate::Cause::Application));
    assert_eq!(sent(&mut queue).len(), 2);
    assert_eq!(queue.held(), cost(6000));
    queue.drop_backlog();
    assert_eq!(sent(&mut queue), [(Kind::Reset, 0)]);
}

#[test]
fn data_that_a_restart_drops_are_charged_until_the_peer_has_delivered_them() {
    for waits in [0, 1] {
        let mut queue = queue();
        queue.write(vec![1; 5000].into());
        sent(&mut queue);
        queue.write(vec![1; 100].into());
        sent(&mut queue);
        let received = FIRST.plus(2);
        let delivered = received.minus(waits);
        queue.restart(delivered, received, Reset::new(crate::Cause::Corrupt));
        assert_eq!((queue.held(), queue.charged()), (0, u64::from(waits) * cost(5000)));
        assert_eq!(sent(&mut queue), [(Kind::Reset, received.get())]);
        assert_eq!(queue.acknowledge(delivered), Ok(false));
        assert_eq!(queue.acknowledge(received), Ok(waits > 0));
        assert_eq!(queue.charged(), 0);
        assert_eq!(queue.acknowledge(received.next()), Ok(true));
    }
}

#[test]
fn after_a_cut_only_the_reset_is_left_and_any_number_fits() {
    let mut queue = queue();
    queue.write(vec![1; 9000].into());
    sent(&mut queue);
    queue.cut(Reset::new(crate::Cause::Application));
    assert_eq!(sent(&mut queue), [(Kind::Reset, 0)]);
    assert_eq!(queue.acknowledge(FIRST.plus(1)), Ok(false));
    queue.resume(FIRST, FIRST, Digest::new(7)).unwrap();
    assert_eq!(sent(&mut queue), [(Kind::Reset, FIRST.get())], "where the peer goes on");
    queue.resume(FIRST, FIRST.next(), Digest::new(7)).unwrap();
    assert_eq!(sent(&mut queue), [], "the peer has it");
    assert_eq!(queue.acknowledge(FIRST.next()), Ok(true));
    assert_eq!(queue.state, SendState::DoneReset);
}

#[test]
fn a_queue_that_is_put_back_sends_the_same_packets_from_where_it_was() {
    for is_reset in [false, true] {
        let mut queue = queue();
        queue.write(vec![1; MAX_PAYLOAD + 100].into());
        sent(&mut queue);
        queue.acknowledge(FIRST.plus(2)).unwrap();
        queue.write(vec![2; 300].into());
        sent(&mut queue);
        queue.write(vec![3; 70].into());
        if is_reset {
            queue.reset(Reset::with_detail(crate::Cause::Killed, "why"));
            queue.drop_backlog();
            sent(&mut queue);
        }
        let (state, payload) = (queue.state(), queue.payload().collect());
        assert_eq!(
            (state.offset, state.end - state.offset),
            (MAX_PAYLOAD as u64, 400 + if is_reset { 0 } else { 70 })
        );
        let boundaries: Vec<_> = queue.boundaries(state.base).collect();
        let mut again = SendQueue::restore(state.clone(), &boundaries, payload).unwrap();
        assert_eq!(again.state(), state);
        assert_eq!((again.held(), again.backlogged()), (queue.held(), queue.backlogged()));
        queue.rewind();
        while let Some(packet) = queue.next_packet(u64::MAX) {
            let same = again.next_packet(u64::MAX).unwrap();
            assert_eq!((packet.kind, packet.seq), (same.kind, same.seq));
            assert_eq!(packet.payload, same.payload);
        }
        assert_eq!(again.numbered.digest(), queue.numbered.digest());
    }
}
