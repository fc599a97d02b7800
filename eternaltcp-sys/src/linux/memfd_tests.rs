use super::*;

const SIZE: usize = 64 * 1024;

fn blocks(count: u32) -> Blocks {
    Blocks::create(c"test", SIZE, count).unwrap()
}

/// Returns how much memory a file has.
fn held(file: BorrowedFd<'_>) -> u64 {
    fstat(file).unwrap().st_blocks as u64 * 512
}

#[test]
fn words_are_found_by_whoever_maps_the_same_memory() {
    let words = Words::create(c"test", 4096, 2).unwrap();
    words.word(8).store(7, Ordering::Relaxed);
    words.store(16, b"twelve bytes");
    let other = Words::open(words.file().try_clone_to_owned().unwrap(), 4096, 2).unwrap();
    assert_eq!(other.word(8).load(Ordering::Relaxed), 7);
    let mut bytes = [0; 12];
    other.load(16, &mut bytes);
    assert_eq!(&bytes, b"twelve bytes");
    assert_eq!(other.word(24).load(Ordering::Relaxed).to_ne_bytes(), *b"ytes\0\0\0\0");
}

#[test]
fn memory_of_another_size_is_refused() {
    let words = Words::create(c"test", 4096, 2).unwrap();
    for (length, calls) in [(4096, 3), (4088, 2), (0, 0), (usize::MAX - 7, 2)] {
        let file = words.file().try_clone_to_owned().unwrap();
        assert!(Words::open(file, length, calls).is_err(), "{length}, {calls}");
    }
    assert!(Words::create(c"test", 12, 0).is_err());
    assert!(Blocks::create(c"test", 100, 1).is_err());
    assert!(Blocks::open(blocks(3).file().try_clone_to_owned().unwrap(), 2 * SIZE).is_err());
}

#[test]
fn a_file_that_may_shrink_is_refused() {
    let file = memfd_create(c"test", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, 4096).unwrap();
    assert!(Words::open(file, 4096, 0).is_err());
}

#[test]
#[should_panic(expected = "no word begins at 4096")]
fn no_word_lies_beyond_the_end() {
    let words = Words::create(c"test", 4096, 2).unwrap();
    let _ = words.word(4096);
}

#[test]
fn a_place_for_a_call_has_one_owner() {
    let words = Words::create(c"test", 4096, 2).unwrap();
    let first = words.take_call(0).unwrap();
    assert!(words.take_call(0).is_none() && words.take_call(2).is_none());
    drop(first);
    assert!(words.take_call(0).is_some());
}

#[test]
fn a_block_is_free_again_when_all_parts_of_it_are_dropped() {
    let blocks = blocks(1);
    let mut block = blocks.take().unwrap();
    block.rest()[..3].copy_from_slice(b"abc");
    let first = block.fill(2);
    let second = block.fill(1);
    assert_eq!((first.as_ref(), second.as_ref()), (&b"ab"[..], &b"c"[..]));
    assert_eq!(blocks.place_of(second.as_ref()), Some((0, 2)));
    assert_eq!(blocks.place_of(b"elsewhere"), None);
    assert_eq!(block.rest().len(), SIZE - 3);
    drop((block, second));
    assert!(blocks.take().is_none());
    drop(first);
    assert!(blocks.take().is_some());
}

#[test]
fn a_block_that_was_in_use_last_is_used_first() {
    let blocks = blocks(8);
    let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
    let index = first.index();
    drop(second);
    drop(first);
    assert_eq!(blocks.take().unwrap().index(), index);
}

#[test]
fn memory_that_was_not_needed_between_two_trims_goes_back() {
    let blocks = blocks(8);
    let mut taken: Vec<_> = (0..8).map(|_| blocks.take().unwrap()).collect();
    taken.iter_mut().for_each(|block| block.rest().fill(1));
    assert_eq!(held(blocks.file()), 8 * SIZE as u64);
    drop(taken);
    blocks.trim();
    assert_eq!(held(blocks.file()), 8 * SIZE as u64, "it was needed until now");
    drop((blocks.take(), blocks.take()));
    drop([blocks.take(), blocks.take()]);
    blocks.trim();
    assert_eq!(held(blocks.file()), 2 * SIZE as u64);
    let all: Vec<_> = (0..8).map(|_| blocks.take().unwrap()).collect();
    assert!(blocks.take().is_none());
    drop(all);
}

#[test]
fn the_next_process_claims_what_was_filled_and_gives_back_the_rest() {
    let blocks = blocks(8);
    let mut taken: Vec<_> = (0..6).map(|_| blocks.take().unwrap()).collect();
    (1..).zip(&mut taken).for_each(|(value, block)| block.rest().fill(value));
    let file = blocks.file().try_clone_to_owned().unwrap();
    drop((taken, blocks));
    let blocks = Blocks::open(file, SIZE).unwrap();
    let third = blocks.claim(2).unwrap().into_part();
    let first = blocks.claim(0).unwrap().into_part();
    assert!(blocks.claim(2).is_none() && blocks.claim(8).is_none());
    assert_eq!((first.as_ref()[0], third.as_ref()[SIZE - 1]), (1, 3));
    blocks.release_untaken();
    assert_eq!(held(blocks.file()), 2 * SIZE as u64);
    let rest: Vec<_> = std::iter::from_fn(|| blocks.take()).collect();
    assert_eq!(rest.len(), 6);
    assert_eq!((first.as_ref()[0], third.as_ref()[0]), (1, 3));
}
