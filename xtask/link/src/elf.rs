//! The object file: sections, symbols and relocations, as much of them as a program has.

use anyhow::{Context, Result, ensure};
use object::{
    Architecture, Object as _, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionIndex, SectionKind, SymbolIndex, SymbolKind, elf as format,
};

use super::btf::{Btf, Line};
use super::map::{self, Arena};
use super::shown;

/// Relocations of clang's BPF target (LLVM's BPF.def).
pub mod reloc {
    /// A wide instruction's 64-bit immediate.
    pub const R64_64: u32 = 1;
    /// 64 bits of data.
    pub const ABS64: u32 = 2;
    /// A call.
    pub const R64_32: u32 = 10;
}

/// An object of `clang -target bpf`.
pub struct Object<'a> {
    file: object::File<'a>,
}

/// A symbol, resolved as far as the object says.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// Its name; a section's own symbol has the section's.
    pub name: String,
    /// Its section; `None` if it is external.
    pub section: Option<SectionIndex>,
    /// Bytes from the section's start.
    pub value: u64,
    /// It may stay unresolved.
    pub is_weak: bool,
}

/// A relocation of one section.
#[derive(Clone, Debug)]
pub struct Relocation {
    /// Bytes from the section's start.
    pub offset: u64,
    /// See [`reloc`].
    pub kind: u32,
    /// What it refers to.
    pub symbol: Symbol,
}

/// A function that the object defines.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its section.
    pub section: SectionIndex,
    /// First byte in that.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl<'a> Object<'a> {
    /// Reads an object file.
    ///
    /// # Errors
    /// It is none, is cut, or is for another machine.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let file = object::File::parse(bytes).context("not an object file")?;
        let is_bpf = file.architecture() == Architecture::Bpf && file.is_little_endian();
        ensure!(is_bpf, "not an object of `clang -target bpf`: {:?}", file.architecture());
        Ok(Self { file })
    }

    /// The name of a section.
    pub fn section_name(&self, index: SectionIndex) -> Result<String> {
        Ok(shown(self.file.section_by_index(index)?.name()?))
    }

    /// The bytes of a section; none for .bss.
    pub fn section_bytes(&self, index: SectionIndex) -> Result<&'a [u8]> {
        let section = self.file.section_by_index(index)?;
        let name = section.name().unwrap_or("?");
        section.data().with_context(|| format!("section {} is cut", shown(name)))
    }

    /// Sections that hold globals: index, name, size, alignment.
    pub fn data_sections(&self) -> Result<Vec<(SectionIndex, String, u64, u64)>> {
        let mut all = Vec::new();
        for section in self.file.sections() {
            let name = section.name().context("a section without a name")?;
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let is_loaded = sh_flags.contains(format::SHF_ALLOC);
            let is_code = sh_flags.contains(format::SHF_EXECINSTR);
            let is_ours = !name.starts_with('.')
                || [".data", ".rodata", ".bss", ".addr_space.1"]
                    .iter()
                    .any(|p| name.starts_with(p));
            if is_loaded && !is_code && is_ours && name != "license" && section.size() > 0 {
                all.push((section.index(), shown(name), section.size(), section.align().max(1)));
            }
        }
        Ok(all)
    }

    /// Whether a section has no bytes in the file.
    pub fn is_bss(&self, index: SectionIndex) -> bool {
        let section = self.file.section_by_index(index);
        section.is_ok_and(|section| section.kind() == SectionKind::UninitializedData)
    }

    /// The functions, in the order of the symbol table.
    pub fn functions(&self) -> Result<Vec<Function>> {
        let mut all = Vec::new();
        for symbol in self.file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let Some(section) = symbol.section_index() else { continue };
            let name = shown(symbol.name().context("a function without a name")?);
            let (start, size) = (symbol.address(), symbol.size());
            ensure!(start % 8 == 0 && size % 8 == 0, "function {name} is no whole instructions");
            all.push(Function { name, section, start, size });
        }
        Ok(all)
    }

    /// The relocations of a section.
    pub fn relocations(&self, index: SectionIndex) -> Result<Vec<Relocation>> {
        let section = self.file.section_by_index(index)?;
        section
            .relocations()
            .map(|(offset, relocation)| {
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    anyhow::bail!("a relocation that is none of ELF's")
                };
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    anyhow::bail!("the relocation at byte {offset} names no symbol")
                };
                Ok(Relocation { offset, kind: r_type.0, symbol: self.symbol(symbol)? })
            })
            .collect()
    }

    fn symbol(&self, index: SymbolIndex) -> Result<Symbol> {
        let symbol = self.file.symbol_by_index(index).context("a relocation names no symbol")?;
        let section = symbol.section_index();
        let name = match (symbol.kind(), section) {
            (SymbolKind::Section, Some(section)) => self.section_name(section)?,
            _ => shown(symbol.name().context("a symbol without a name")?),
        };
        Ok(Symbol { name, section, value: symbol.address(), is_weak: symbol.is_weak() })
    }

    /// The arena that `.maps` defines, if it defines one.
    ///
    /// # Errors
    /// As [`map::arena`]; also maps without BTF.
    pub fn arena(&self) -> Result<Option<Arena>> {
        if self.section(".maps").is_none_or(|maps| maps.is_empty()) {
            return Ok(None);
        }
        let section = self.section(".BTF").context("it has maps and no .BTF: compile with -g")?;
        map::arena(&Btf::parse(section)?.maps()?)
    }

    /// The source lines that it knows.
    pub fn lines(&self) -> Vec<Line<'a>> {
        let lines = || {
            let btf = Btf::parse(self.section(".BTF")?).ok()?;
            Some(btf.lines(self.section(".BTF.ext")?))
        };
        lines().unwrap_or_default()
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.file.section_by_name(name)?.data().ok()
    }
}
