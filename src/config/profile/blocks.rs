//! Which requests read a set of points: few, within the device's limit, and not over wide holes.

use crate::spec::RegisterBlock;

/// The fewest runs, in ascending order, that cover all extents so that no run is longer than `registers_max` and
/// none reads over a hole of more than `gap_max` registers.
///
/// Greedy from the lowest register on. Every extent must be at most `registers_max` wide and end below 65536;
/// a wider one gets a run of its own.
pub(super) fn merge(extents: &[RegisterBlock], registers_max: u16, gap_max: u16) -> Vec<RegisterBlock> {
    let mut sorted = extents.to_vec();
    sorted.sort_unstable();
    let mut blocks: Vec<RegisterBlock> = Vec::new();
    for extent in sorted {
        if let Some(block) = blocks.last_mut().filter(|b| (b.unit, b.table) == (extent.unit, extent.table)) {
            let block_end = u32::from(block.start) + u32::from(block.count);
            let end = block_end.max(u32::from(extent.start) + u32::from(extent.count));
            let length = end - u32::from(block.start);
            let is_near = u32::from(extent.start) <= block_end + u32::from(gap_max);
            if let (true, Ok(count)) = (is_near && length <= u32::from(registers_max), u16::try_from(length)) {
                block.count = count;
                continue;
            }
        }
        blocks.push(extent);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::RegisterTable;

    type Extent = (RegisterTable, u16, u16);

    const INPUT: RegisterTable = RegisterTable::Input;
    const HOLDING: RegisterTable = RegisterTable::Holding;

    fn extents(extents: &[Extent]) -> Vec<RegisterBlock> {
        let block = |&(table, start, count): &Extent| RegisterBlock { unit: None, table, start, count };
        extents.iter().map(block).collect()
    }

    fn runs(given: &[Extent], registers_max: u16, gap_max: u16) -> Vec<(u16, u16)> {
        merge(&extents(given), registers_max, gap_max).into_iter().map(|b| (b.start, b.count)).collect()
    }

    #[test]
    fn neighbours_are_read_together_and_a_small_hole_is_read_over() {
        assert_eq!(runs(&[(INPUT, 2, 2), (INPUT, 0, 2)], 125, 0), [(0, 4)]);
        assert_eq!(runs(&[(INPUT, 0, 2), (INPUT, 6, 2)], 125, 4), [(0, 8)]);
        assert_eq!(runs(&[(INPUT, 0, 2), (INPUT, 7, 2)], 125, 4), [(0, 2), (7, 2)]);
    }

    #[test]
    fn a_run_is_cut_at_the_limit_and_never_inside_a_value() {
        assert_eq!(runs(&[(INPUT, 0, 2), (INPUT, 2, 4), (INPUT, 6, 2)], 5, 8), [(0, 2), (2, 4), (6, 2)]);
    }

    #[test]
    fn tables_and_units_are_never_mixed() {
        assert_eq!(merge(&extents(&[(INPUT, 0, 1), (HOLDING, 1, 1)]), 125, 8).len(), 2);
        let of = |unit, start| RegisterBlock { unit, table: INPUT, start, count: 1 };
        assert_eq!(merge(&[of(None, 0), of(Some(200), 1), of(None, 1)], 125, 8).len(), 2);
    }

    #[test]
    fn two_values_in_the_same_registers_are_read_once() {
        assert_eq!(runs(&[(INPUT, 10, 4), (INPUT, 10, 2), (INPUT, 11, 1)], 125, 0), [(10, 4)]);
    }

    #[test]
    fn the_last_register_can_be_read() {
        assert_eq!(runs(&[(INPUT, 65_534, 2), (INPUT, 65_535, 1)], 125, 8), [(65_534, 2)]);
    }

    proptest! {
        #[test]
        fn every_value_is_whole_in_one_run_within_the_limits(
            points in proptest::collection::vec((any::<bool>(), 0_u16..400, 1_u16..=4), 1..60),
            registers_max in 4_u16..=125,
            gap_max in 0_u16..=16,
        ) {
            let table = |holding| if holding { HOLDING } else { INPUT };
            let points: Vec<Extent> = points.into_iter().map(|(h, at, width)| (table(h), at, width)).collect();
            let blocks = merge(&extents(&points), registers_max, gap_max);
            prop_assert!(blocks.iter().all(|b| b.count <= registers_max));
            for (table, at, width) in &points {
                let holds = |b: &&RegisterBlock| b.table == *table && b.start <= *at && at + width <= b.start + b.count;
                prop_assert!(blocks.iter().any(|b| holds(&b)));
            }
            let is_used = |b: &RegisterBlock, register: u16| {
                points.iter().any(|(table, at, width)| *table == b.table && (*at..at + width).contains(&register))
            };
            for block in &blocks {
                let mut hole = 0;
                for register in block.start..block.start + block.count {
                    hole = if is_used(block, register) { 0 } else { hole + 1 };
                    prop_assert!(hole <= gap_max);
                }
            }
        }
    }
}
