//! Trees of the tests' own, flattened as the specification says (v0.4, chapter 5).

/// Tags of the structure.
mod tag {
    pub const BEGIN: u32 = 1;
    pub const END: u32 = 2;
    pub const PROPERTY: u32 = 3;
    pub const NOTHING: u32 = 4;
    pub const LAST: u32 = 9;
}

/// A tree that grows.
#[derive(Default)]
pub struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    /// A node, filled by `fill`.
    pub fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.words(&[tag::BEGIN]).bytes(name.as_bytes()).bytes(&[0]).pad();
        fill(self);
        self.words(&[tag::END])
    }

    /// A property of whole cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<_> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &bytes)
    }

    /// A property of addresses and sizes, two cells each.
    pub fn regions(&mut self, name: &str, regions: &[(u64, u64)]) -> &mut Self {
        let two = |n: u64| [(n >> 32) as u32, n as u32];
        let cells: Vec<_> = regions.iter().flat_map(|(at, size)| [two(*at), two(*size)]).collect();
        self.cells(name, cells.as_flattened())
    }

    /// A property of one text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.property(name, format!("{text}\0").as_bytes())
    }

    /// A property.
    pub fn property(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.words(&[tag::PROPERTY, value.len() as u32, at]).bytes(value).pad()
    }

    /// A tag that stands for nothing.
    pub fn nothing(&mut self) -> &mut Self {
        self.words(&[tag::NOTHING])
    }

    /// The bytes.
    pub fn flatten(&mut self) -> Vec<u8> {
        self.words(&[tag::LAST]);
        const HEADER: u32 = 40;
        const RESERVED: u32 = 16;
        let first = HEADER + RESERVED;
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let behind = first + structure;
        let mut all = Self::default();
        all.words(&[0xd00d_feed, behind + strings, first, behind, HEADER, 17, 16, 0]);
        all.words(&[strings, structure, 0, 0, 0, 0]);
        [all.structure.as_slice(), &self.structure, &self.strings].concat()
    }

    fn words(&mut self, words: &[u32]) -> &mut Self {
        words.iter().for_each(|word| self.structure.extend(word.to_be_bytes()));
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.structure.extend(bytes);
        self
    }

    fn pad(&mut self) -> &mut Self {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        self
    }
}
