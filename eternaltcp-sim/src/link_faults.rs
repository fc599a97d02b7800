//! Faults of single links.

use eternaltcp_proto::Side;

use crate::env::{Env, LinkId, note};
use crate::link::SimLink;
use crate::pipe::LinkNotice;
use crate::rng::Rng;
use crate::sides::BOTH;

/// Decides how a new carrier will die, if it will.
pub(crate) fn ordain(env: &mut Env, id: LinkId, link: &mut SimLink) {
    for cut in env.cuts.iter().filter(|cut| cut.carrier == id) {
        link.cut_at(cut.writer, cut.offset, cut.notice);
    }
    if !env.rng.chance(env.doomed) {
        return;
    }
    let side = any_side(&mut env.rng);
    let offset = match env.rng.below(3) {
        0 => env.rng.below(200),
        1 => env.rng.below(3000),
        _ => env.rng.below(200_000),
    };
    let notice = notice(env);
    note!(env, "link {id} is doomed at byte {offset} of {side:?}: {notice:?}");
    link.cut_at(side, offset, notice);
    if env.rng.chance(15) {
        let until = env.now + env.rng.millis(10, 6000);
        link.stall(any_side(&mut env.rng), env.now, until);
        env.counters.stalls += 1;
    }
}

/// Returns a random side.
pub(crate) fn any_side(rng: &mut Rng) -> Side {
    rng.pick(&[Side::Client, Side::Server])
}

/// Returns a random choice of the ends that learn of the end of a link.
pub(crate) fn notice(env: &mut Env) -> LinkNotice {
    let notice = match env.rng.below(10) {
        0..=5 => LinkNotice::Both,
        6..=8 => LinkNotice::Only(any_side(&mut env.rng)),
        _ => LinkNotice::Nobody,
    };
    env.counters.half_open += u64::from(notice != LinkNotice::Both);
    notice
}

/// Stops all traffic on these links.
pub(crate) fn silence(env: &mut Env, links: Vec<LinkId>) {
    for id in links {
        note!(env, "link {id} falls silent");
        if let Some(link) = env.links.get_mut(&id) {
            BOTH.into_iter().for_each(|side| link.silence(side, env.now));
        }
    }
}
