//! A device whose registers are what the fuzzer likes: a survey ends, and no model makes the decoder panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use v2g_edge::source::modbus::sunspec::{Survey, SurveyStep, decode};

/// Three bases, 64 models and an end.
const STEPS_MAX: usize = 80;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let word = |at: u16| match at.checked_sub(40_000) {
        Some(0) => 0x5375,
        Some(1) => 0x6e53,
        Some(n) => words.get(usize::from(n) - 2).copied().unwrap_or(0xffff),
        None => 0,
    };
    let mut survey = Survey::new(&[]);
    let mut steps = 0;
    while !survey.is_known() {
        let [blocks, _] = survey.blocks();
        let answer: Vec<u16> = (blocks[0].start..=u16::MAX).take(blocks[0].count.into()).map(word).collect();
        if survey.answered(blocks[0], &answer) == SurveyStep::NoSunSpec {
            break;
        }
        steps += 1;
        assert!(steps <= STEPS_MAX, "a survey without an end");
    }
    for model in survey.chain() {
        let end = u32::from(model.address) + 2 + u32::from(model.length);
        assert!(end <= 65_536, "a model beyond the last register");
        let image: Vec<u16> =
            (model.address..=u16::MAX).take(usize::from(model.length).min(2000) + 2).map(word).collect();
        let _ = decode(model.id, &image);
    }
});
