//! DBC files and recordings made at random: what cantools and the product must read alike.

use std::fmt::Write as _;

use hil_tests::seed::Seed;

/// A source of random numbers.
pub(crate) struct Dice(Seed);

impl Dice {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(seed)
    }

    /// 0 to `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.0.below(below as u64)).expect("small")
    }

    fn bits(&mut self) -> u64 {
        (0..4).fold(0, |bits, _| bits << 16 | self.0.below(1 << 16))
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A signal of a random file, as far as its bits go.
struct Placed {
    motorola: bool,
    start: usize,
    size: usize,
}

/// Finds room for `size` bits that nobody has yet, in an order drawn by lot.
fn place(dice: &mut Dice, taken: &mut [bool], size: usize) -> Option<Placed> {
    for _ in 0..20 {
        let motorola = dice.below(2) == 0;
        let first = dice.below(taken.len());
        // Motorola counts bits from the most significant one of byte 0; a DBC file names them otherwise.
        let bits: Option<Vec<usize>> = (first..first + size)
            .map(|bit| if motorola { bit / 8 * 8 + 7 - bit % 8 } else { bit })
            .map(|bit| (bit < taken.len() && !taken[bit]).then_some(bit))
            .collect();
        if let Some(bits) = bits {
            bits.iter().for_each(|bit| taken[*bit] = true);
            return Some(Placed { motorola, start: bits[0], size });
        }
    }
    None
}

/// A message of a random file: what a frame of it looks like.
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) extended: bool,
    pub(crate) bytes: usize,
    /// Bits of the multiplexor and the values that it has.
    multiplexor: Option<(Placed, usize)>,
    signals: Vec<Random>,
}

/// A signal of a random file.
struct Random {
    name: String,
    placed: Placed,
    signed: bool,
    float: bool,
    factor: f64,
    offset: f64,
    /// The multiplexor's value by which it is there.
    page: Option<usize>,
}

/// A random DBC file, and the messages in it.
pub(crate) fn dbc(dice: &mut Dice) -> (String, Vec<Message>) {
    let mut text = String::from("VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\n");
    let (mut kinds, mut words, mut messages) = (String::new(), String::new(), Vec::new());
    for number in 0..=dice.below(8) {
        let extended = dice.below(3) == 0;
        let id = if extended { 0x1000_0000 + number * 0x1_0101 } else { 0x100 + number };
        let id = u32::try_from(id).expect("small");
        let written = if extended { id | 1 << 31 } else { id };
        let bytes = dice.pick(&[1, 2, 5, 8, 8, 8, 12, 64]);
        writeln!(text, "BO_ {written} Message{number}: {bytes} A").expect("written");
        let mut taken = vec![false; bytes * 8];
        let multiplexor = (dice.below(3) == 0).then(|| place(dice, &mut taken, 3)).flatten();
        if let Some(placed) = &multiplexor {
            writeln!(text, " SG_ Page{number} M : {} (1,0) [0|0] \"\" A", layout(placed, false)).expect("written");
        }
        let (mut pages, mut signals) = (0, Vec::new());
        for signal in 0..=dice.below(9) {
            let float = dice.below(5) == 0;
            let size = if float { dice.pick(&[32, 64]) } else { 1 + dice.below(dice_size(bytes)) };
            // Signals of different pages may lie on each other: each page has its own room.
            let page = if multiplexor.is_some() && dice.below(2) == 0 { Some(pages) } else { None };
            let Some(placed) = place(dice, &mut taken, size) else { continue };
            let signed = float || dice.below(2) == 0;
            let name = format!("S{number}x{signal}");
            let letter = page.map_or_else(String::new, |page: usize| format!("m{page} "));
            let factor = dice.pick(&["1", "0.1", "-0.25", "3", "1e-3", "0.0625", "-2", "7.5"]);
            let offset = dice.pick(&["0", "0", "-40", "0.5", "1000", "-0.1"]);
            let unit = dice.pick(&["", "V", "A", "%", "degC"]);
            writeln!(text, " SG_ {name} {letter}: {} ({factor},{offset}) [0|0] \"{unit}\" A", layout(&placed, signed))
                .expect("written");
            if page.is_some() {
                pages += 1;
            }
            let number = |text: &str| text.parse().expect("a number");
            let (factor, offset) = (number(factor), number(offset));
            signals.push(Random { name: name.clone(), placed, signed, float, factor, offset, page });
            if float {
                writeln!(kinds, "SIG_VALTYPE_ {written} {name} : {};", size / 32).expect("written");
            } else if dice.below(3) == 0 {
                writeln!(words, "VAL_ {written} {name} 0 \"zero\" 1 \"one\" 2 \"two words\" ;").expect("written");
            }
        }
        text.push('\n');
        let multiplexor = multiplexor.map(|placed| (placed, pages.max(1)));
        messages.push(Message { id, extended, bytes, multiplexor, signals });
    }
    (text + &words + &kinds, messages)
}

fn dice_size(bytes: usize) -> usize {
    (bytes * 8).min(64)
}

fn layout(placed: &Placed, signed: bool) -> String {
    let (order, sign) = (u8::from(!placed.motorola), if signed { '-' } else { '+' });
    format!("{}|{}@{order}{sign}", placed.start, placed.size)
}

/// Writes `value` into the bits of a signal, the most significant bit first.
fn write(placed: &Placed, value: u64, data: &mut [u8]) {
    for n in 0..placed.size {
        let digit = u8::from(value >> n & 1 == 1);
        let bit = if placed.motorola {
            let last = placed.start / 8 * 8 + 7 - placed.start % 8 + placed.size - 1 - n;
            last / 8 * 8 + 7 - last % 8
        } else {
            placed.start + n
        };
        data[bit / 8] = data[bit / 8] & !(1 << (bit % 8)) | digit << (bit % 8);
    }
}

/// A recording of random frames of these messages.
pub(crate) fn log(dice: &mut Dice, messages: &[Message], frames: usize) -> String {
    let mut text = String::new();
    for n in 0..frames {
        let message = &messages[dice.below(messages.len())];
        let mut data: Vec<u8> = (0..message.bytes).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
        // Small numbers now and then, so that words of value tables come up.
        if dice.below(4) == 0 {
            data.iter_mut().for_each(|byte| *byte &= 1);
        }
        if let Some((placed, pages)) = &message.multiplexor {
            let page = dice.below(*pages) as u64;
            write(placed, page, &mut data);
        }
        text.push_str(&line(n, message.id, message.extended, &data));
    }
    text
}

/// One line of `candump -L`.
pub(crate) fn line(n: usize, id: u32, extended: bool, data: &[u8]) -> String {
    let id = if extended { format!("{id:08X}") } else { format!("{id:03X}") };
    let fd = if data.len() > 8 { "#0" } else { "" };
    let hex: String = data.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("({}.{:06}) can0 {id}#{fd}{hex}\n", 1_700_000_000 + n / 1000, n % 1000 * 1000)
}

/// A frame of this message with a random value in each signal, written bit by bit; and what each of them is then worth.
pub(crate) fn encode(dice: &mut Dice, message: &Message) -> (Vec<u8>, Vec<(String, f64)>) {
    let mut data: Vec<u8> = (0..message.bytes).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    let page = message.multiplexor.as_ref().map(|(placed, pages)| {
        let page = dice.below(*pages);
        write(placed, page as u64, &mut data);
        page
    });
    let mut worth = Vec::new();
    for signal in message.signals.iter().filter(|signal| signal.page.is_none() || signal.page == page) {
        let bits = dice.bits() >> (64 - signal.placed.size);
        write(&signal.placed, bits, &mut data);
        let raw = signal.raw(bits);
        if raw.is_finite() {
            worth.push((signal.name.clone(), raw * signal.factor + signal.offset));
        }
    }
    (data, worth)
}

impl Random {
    /// What these bits are.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        reason = "meant"
    )]
    fn raw(&self, bits: u64) -> f64 {
        match (self.float, self.placed.size) {
            (true, 32) => f32::from_bits(bits as u32).into(),
            (true, _) => f64::from_bits(bits),
            (false, size) if self.signed && bits >> (size - 1) == 1 => (i128::from(bits) - (1_i128 << size)) as f64,
            (false, _) => bits as f64,
        }
    }
}
