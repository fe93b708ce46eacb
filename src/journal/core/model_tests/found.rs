//! Histories that chance has found, as short as they could be made, and what was wrong.

use super::{Lane, Step, WhenFull, World, appended, run};

/// Found by a random history: a start learns the newest time from the newest segment; all of that is acknowledged and goes
/// before anything is captured; the next boot has no clock, and its estimates began before that time.
#[test]
fn the_newest_time_is_known_after_the_segment_that_told_it_is_gone() {
    let mut world = World::new(WhenFull::DropOldest, u64::MAX);
    for step in [Step::Append, Step::Stop, Step::Append, Step::Commit, Step::CutAfter(1, 0), Step::Append, Step::Commit]
    {
        world.step(&step);
    }
    for step in [Step::Lease(Lane::History, 9), Step::Acknowledge(0), Step::Acknowledge(0), Step::Maintain(1_000)] {
        world.step(&step);
    }
    assert_eq!(world.store().segments_left(), 0);
    for step in [Step::CutAfter(1, 0), Step::Append, Step::Commit, Step::Append] {
        world.step(&step);
    }
    world.drain();
    let labels = world.oracle.labels_in_order();
    assert!(labels.is_sorted() && labels.len() > 2, "labels out of order: {labels:?}");
}

/// Found by random histories: the newest segment is settled and goes before an older one, whose newest time the next start
/// took for the newest of all, though the record knew better.
#[test]
fn the_newest_time_is_that_of_the_record_if_the_segment_that_is_left_is_older() {
    let acknowledged = |count| vec![Step::Acknowledge(0); count];
    let full_disk = [
        vec![Step::Append; 12],
        vec![Step::Stop, Step::Append, Step::Commit, Step::Lease(Lane::History, 5)],
        acknowledged(5),
        vec![Step::Fill(true), Step::Lease(Lane::History, 1), Step::Acknowledge(0), Step::Append],
        vec![Step::Lease(Lane::History, 7), Step::Acknowledge(8_887_875_925_837_802_053), Step::Commit],
        vec![Step::Maintain(5_000), Step::CutAfter(3, 8_192_309_265_704_012_733), Step::Append, Step::Append],
        vec![Step::Fill(false), Step::Lease(Lane::Live, 1), Step::Maintain(1_000), Step::Append, Step::Append],
    ];
    let synced_late = [
        vec![Step::Append, Step::Append, Step::Commit, Step::CutAfter(1, 0), Step::Append, Step::Append],
        vec![Step::Maintain(1_000), Step::Sync(true), Step::Append, Step::Lease(Lane::History, 1)],
        vec![Step::Acknowledge(0), Step::Append, Step::Stop, Step::Lease(Lane::History, 3)],
        vec![Step::Acknowledge(155_571_260_569_375_537), Step::Acknowledge(2_522_383_556_672_477_503)],
        vec![Step::CutAfter(4, 0), Step::GiveBack(0), Step::Append, Step::Maintain(1_000), Step::Append, Step::Append],
        vec![Step::Commit, Step::Append, Step::Append, Step::Append, Step::Append],
    ];
    for history in [full_disk.concat(), synced_late.concat()] {
        let labels = run(WhenFull::DropOldest, u64::MAX, &history).oracle.labels_in_order();
        assert!(labels.is_sorted() && labels.len() > 2, "labels out of order: {labels:?}");
    }
}

/// A sync failed, and what it was to make durable survived all the same, beside the copy that was written later. The next
/// start took the survivor's last number for the newest when the segment after both was empty: numbers up to 24 were
/// durable, and it went on at 14.
#[test]
fn what_survives_a_failed_sync_does_not_hide_what_was_written_after_it() {
    let (first, second) =
        (Step::CutAfter(13, 17_682_505_115_288_164_504), Step::CutAfter(1, 4_039_985_109_226_284_862));
    let steps = [
        appended(2),
        vec![first, Step::Append, Step::Commit],
        appended(9),
        vec![Step::SetClock(-1), Step::Append, Step::CommitOn, Step::Append, Step::Fill(true)],
        appended(2),
        vec![second, Step::Commit, Step::Fill(false), Step::Lease(Lane::History, 1)],
        appended(8),
        vec![Step::Commit, Step::Append, Step::Commit, Step::Append],
    ];
    run(WhenFull::Thin, 4_000, &steps.concat());
}

/// The medium could not note that a segment was going out; the next entries of it went out without trying again, and after
/// a cut all of them were downsampled.
#[test]
fn what_could_not_be_noted_is_noted_before_more_goes_out() {
    let steps = [
        appended(3),
        vec![Step::Commit, Step::Fill(true), Step::Append, Step::Lease(Lane::History, 1)],
        appended(4),
        vec![Step::CutAfter(8, 8_104_635_193_701_298_082), Step::Fill(false)],
        appended(4),
        vec![Step::Commit],
        appended(10),
        vec![Step::Lease(Lane::History, 4)],
        appended(5),
        vec![Step::Lease(Lane::History, 1), Step::Append, Step::Append, Step::Acknowledge(5_233_180_297_675_110_694)],
        appended(9),
        vec![Step::Commit],
        appended(3),
        vec![Step::Commit],
        appended(23),
    ];
    run(WhenFull::Thin, 4_000, &steps.concat());
}

/// While the medium failed an entry went out from memory and was acknowledged, which no cursor can say before the entry is
/// durable. A cut right after that, and it was downsampled with its neighbours and came again.
#[test]
fn what_went_out_from_memory_is_not_thinned_after_a_cut() {
    let steps = [
        appended(21),
        vec![Step::Stop],
        appended(10),
        vec![Step::GoLive],
        appended(7),
        vec![Step::Fill(true)],
        appended(27),
        vec![
            Step::CutAfter(2, 626_764_137_368_678_355),
            Step::Append,
            Step::Commit,
            Step::Maintain(5000),
            Step::Commit,
            Step::Append,
            Step::Append,
            Step::Fill(false),
            Step::Append,
            Step::Lease(Lane::Live, 1),
            Step::Append,
            Step::Acknowledge(0),
        ],
        appended(12),
        vec![Step::Commit],
        appended(39),
    ];
    run(WhenFull::Thin, 8_000, &steps.concat());
    let steps = [
        appended(8),
        vec![Step::CutAfter(1, 4_766_775_049_450_382_170)],
        appended(6),
        vec![Step::Commit],
        appended(20),
        vec![Step::Commit, Step::Append, Step::Append, Step::Commit],
        appended(6),
        vec![Step::CutAfter(9, 853_972_069_905_173_588)],
        appended(3),
        vec![Step::Sync(true)],
        appended(11),
        vec![Step::GoLive],
        appended(5),
        vec![
            Step::Commit,
            Step::Lease(Lane::Live, 1),
            Step::Append,
            Step::Commit,
            Step::Append,
            Step::Append,
            Step::Commit,
        ],
        appended(18),
        vec![
            Step::Fill(true),
            Step::GoLive,
            Step::Append,
            Step::Commit,
            Step::Maintain(10000),
            Step::Commit,
            Step::Append,
            Step::CutAfter(4, 9_412_963_158_879_098_437),
            Step::GoLive,
            Step::Commit,
            Step::Fill(false),
            Step::Lease(Lane::Live, 1),
            Step::Acknowledge(0),
        ],
        appended(3),
        vec![Step::Commit],
        appended(4),
    ];
    run(WhenFull::Thin, 4_000, &steps.concat());
}

/// An end that the full medium refused left a batch half way: what came next was put into the same segment again.
#[test]
fn an_end_that_fails_leaves_nothing_half_way() {
    let steps = [appended(10), vec![Step::CommitOn, Step::Fill(true), Step::Stop, Step::Append]];
    run(WhenFull::Thin, 4_000, &steps.concat());
}

/// A sync failed and what was written survived all the same. Meanwhile it had left from memory with an estimated time that
/// could not be saved, and the next life, which knew better, told the same entry with another one.
#[test]
fn what_may_have_survived_does_not_leave_with_a_time_that_may_not() {
    let steps = [
        vec![Step::CutAfter(1, 0), Step::Append, Step::Commit],
        appended(10),
        vec![Step::CommitOn, Step::Fill(true), Step::GoLive, Step::Maintain(1), Step::Maintain(1_149), Step::Commit],
        vec![Step::Maintain(8_851), Step::Commit, Step::Lease(Lane::Live, 1), Step::Sync(true), Step::Kill],
    ];
    run(WhenFull::Thin, 8_000, &steps.concat());
}
