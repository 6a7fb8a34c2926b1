//! Noise to everything that is pure, the same in every run; `scripts/fuzz` looks
//! further.

#[path = "../../../tests/fuzz/checks.rs"]
mod checks;
#[path = "../../../tests/fuzz/seeds.rs"]
mod seeds;

/// Numbers that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % max
    }

    /// How it is cut, and one of the seeds, damaged in a few places with pieces
    /// of the others.
    fn damage(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let piece = u8::try_from(self.below(7)).unwrap();
        let mut bytes = [&[piece], seeds[self.below(seeds.len())]].concat();
        for _ in 0..self.below(4) {
            let at = 1 + self.below(bytes.len());
            let until = bytes.len().min(at + self.below(4));
            let other = seeds[self.below(seeds.len())];
            let from = self.below(other.len());
            let piece = &other[from..other.len().min(from + self.below(12))];
            let byte = [u8::try_from(self.below(256)).unwrap()];
            let new = if self.below(2) == 0 { piece } else { &byte };
            bytes.splice(at..until, new.iter().copied());
        }
        bytes
    }
}

#[test]
fn nothing_panics_and_pieces_do_not_matter() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..5_000 {
        let input = noise.damage(seeds::SEEDS);
        checks::request(&input);
        checks::response(&input);
        checks::body(&input);
        checks::chunks(&input);
        checks::gzip(&input);
        checks::url(&input[1..]);
    }
}
