//! Which points stand in a block of registers, and where in it. Worked out once for each block.

use std::collections::HashMap;
use std::ops::Range;

use crate::spec::{DeviceSpec, RegisterBlock, RegisterPoint};

/// Blocks of one device that are remembered. What is read of a device changes only as blocks are cut in two, down to one for
/// each of at most 512 points: 1,023 in all.
const BLOCKS_MAX: usize = 1024;

/// Where the words of a point stand among those of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// All that belongs to it: [`RegisterPoint::extent`].
    pub(super) whole: Range<usize>,
    /// The value's own.
    pub(super) own: Range<usize>,
    /// Those of its scale register, if it has one.
    pub(super) scale: Option<Range<usize>>,
}

impl Place {
    /// `None` if not all of the point is in the block.
    pub(super) fn of(register: &RegisterPoint, block: &RegisterBlock) -> Option<Self> {
        let extent = register.extent();
        let span = |address: u16, width: u16| {
            let at = usize::from(address.saturating_sub(block.start));
            at..at + usize::from(width)
        };
        block.covers(&extent).then(|| Self {
            whole: span(extent.start, extent.count),
            own: span(register.address, register.width()),
            scale: register.scale.as_ref().map(|scale| span(scale.address, scale.raw.width())),
        })
    }
}

/// The blocks of one device.
#[derive(Debug)]
pub(super) struct Layouts {
    /// The points that stand in registers, ascending, by their place in the device's list.
    registers: Vec<(u16, RegisterPoint)>,
    blocks: HashMap<RegisterBlock, Vec<(u16, Place)>>,
}

impl Layouts {
    /// All blocks of the plan are laid out at once; those that a source makes of them, when they come.
    pub(super) fn new(spec: &DeviceSpec) -> Self {
        let registers = (0..).zip(spec.points.iter()).filter_map(|(ix, point)| Some((ix, point.register()?.clone())));
        let mut layouts = Self { registers: registers.collect(), blocks: HashMap::new() };
        for block in spec.groups.iter().flat_map(|group| &group.blocks) {
            layouts.of(block);
        }
        layouts
    }

    /// The points of a block, ascending, with their places.
    pub(super) fn of(&mut self, block: &RegisterBlock) -> &[(u16, Place)] {
        let Self { registers, blocks } = self;
        if blocks.len() >= BLOCKS_MAX && !blocks.contains_key(block) {
            blocks.clear();
        }
        blocks.entry(*block).or_insert_with(|| {
            registers.iter().filter_map(|(ix, register)| Some((*ix, Place::of(register, block)?))).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::{
        Aggregation, ByteOrder, DeviceKind, Origin, PointSpec, PollGroup, RawKind, RegisterTable, ScaleKind,
        ScaleRegister, Scaling, Unit, ValueType, WordOrder,
    };

    fn register(address: u16, scale: Option<u16>) -> RegisterPoint {
        let scale = scale.map(|address| ScaleRegister {
            address,
            raw: RawKind::I16,
            kind: ScaleKind::Exponent,
            not_available: vec![],
        });
        RegisterPoint {
            unit: None,
            table: RegisterTable::Input,
            address,
            raw: RawKind::U32,
            byte_order: ByteOrder::Big,
            word_order: WordOrder::MswFirst,
            mask: None,
            not_available: vec![],
            scale,
        }
    }

    fn block(start: u16, count: u16) -> RegisterBlock {
        RegisterBlock { unit: None, table: RegisterTable::Input, start, count }
    }

    fn spec(registers: &[RegisterPoint], blocks: Vec<RegisterBlock>) -> DeviceSpec {
        let point = |register: &RegisterPoint| PointSpec {
            field: format!("p{}", register.address).as_str().try_into().expect("a field"),
            unit: Unit::One,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin: Origin::Register(register.clone()),
        };
        DeviceSpec {
            id: "meter".try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: registers.iter().map(point).collect(),
            groups: vec![PollGroup { name: "fast".to_owned(), interval: Duration::from_secs(1), blocks }],
        }
    }

    #[test]
    fn the_points_of_a_block_are_those_that_are_whole_in_it_each_with_its_place() {
        let registers = [register(10, None), register(14, Some(12)), register(18, None)];
        let mut layouts = Layouts::new(&spec(&registers, vec![block(10, 9)]));
        let places = layouts.of(&block(10, 9)).to_vec();
        assert_eq!(
            places,
            [
                (0, Place { whole: 0..2, own: 0..2, scale: None }),
                (1, Place { whole: 2..6, own: 4..6, scale: Some(2..3) })
            ]
        );
        assert_eq!(layouts.of(&block(14, 4)), [], "without its scale a value means nothing");
    }

    /// It was worked out anew for each answer, for every point of the device.
    #[test]
    fn a_block_is_laid_out_once_the_plans_before_the_first_answer() {
        let mut layouts = Layouts::new(&spec(&[register(10, None)], vec![block(10, 2), block(500, 4)]));
        assert_eq!(layouts.blocks.len(), 2);
        let first = layouts.of(&block(10, 2)).as_ptr();
        assert_eq!(layouts.of(&block(10, 2)).as_ptr(), first);
        layouts.registers.clear();
        assert_eq!(layouts.of(&block(10, 2)).len(), 1, "not looked for again");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut layouts = Layouts::new(&spec(&[register(10, None)], vec![block(10, 2)]));
        for start in 0..3_000 {
            layouts.of(&block(start, 2));
            assert!(layouts.blocks.len() <= BLOCKS_MAX);
        }
        assert_eq!(layouts.of(&block(10, 2)).len(), 1);
    }
}
