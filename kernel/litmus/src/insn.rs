//! One instruction of a test, as herd7 writes it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::test::{Barrier, Insn, Place, REGISTERS, Reg, Tlbi};

/// What a register holds from the beginning to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Constant {
    /// An address.
    Address(Place),
    /// The page number of *a*, which is the operand of a TLBI.
    PageNumber,
}

/// What a thread's instructions refer to.
pub struct Context<'a> {
    /// Registers that nothing may write.
    pub constants: [Option<Constant>; REGISTERS],
    /// Labels and the instructions that they are before.
    pub labels: Vec<(&'a str, usize)>,
}

impl Context<'_> {
    /// The instruction behind a label.
    pub fn label(&self, name: &str) -> Result<usize, String> {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map(|(_, at)| *at).ok_or_else(|| format!("no label {name}"))
    }

    /// The instruction in `text`.
    pub fn decode(&mut self, text: &str) -> Result<Insn, String> {
        self.insn(text).map_err(|why| format!("{text}: {why}"))
    }

    fn insn(&mut self, text: &str) -> Result<Insn, String> {
        let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
        let (plain, inside) = operands.split_once('[').unwrap_or((operands, ""));
        let plain: Vec<_> = plain.split(',').map(str::trim).filter(|o| !o.is_empty()).collect();
        let inside: Vec<_> = inside.trim_end_matches(']').split(',').map(str::trim).collect();
        match (name, plain.as_slice(), inside.as_slice()) {
            ("LDR", [to], [base]) => self.load(to, base, Ordering::Relaxed),
            ("LDAR", [to], [base]) => self.load(to, base, Ordering::Acquire),
            ("LDR", [to], [base, offset, "SXTW"]) => match self.place(base)? {
                Place::A => Ok(Insn::LoadIndexed(self.written(to)?, self.value(offset)?)),
                _ => Err("an offset from what is not a".into()),
            },
            ("STR", [from], [base]) => self.store(from, base, Ordering::Relaxed),
            ("STLR", [from], [base]) => self.store(from, base, Ordering::Release),
            ("LDXR", [to], [base]) => {
                self.slot(base)?;
                Ok(Insn::LoadExclusive(self.written(to)?))
            }
            ("STLXR", [status, from], [base]) => {
                self.slot(base)?;
                Ok(Insn::StoreExclusive(self.written(status)?, self.value(from)?))
            }
            ("CAS" | "CASA" | "CASL" | "CASAL", [expected, new], [base]) => {
                self.slot(base)?;
                let order = order(&name[3..]);
                Ok(Insn::CompareAndSwap(self.written(expected)?, self.value(new)?, order))
            }
            ("SWP" | "SWPA" | "SWPL" | "SWPAL", [new, old], [base]) => {
                self.slot(base)?;
                Ok(Insn::Swap(self.value(new)?, self.written(old)?, order(&name[3..])))
            }
            ("MOV", [to, value], _) => Ok(Insn::Move(self.written(to)?, number(value)?)),
            ("ADD", [to, from, value], _) => {
                Ok(Insn::Add(self.written(to)?, self.value(from)?, number(value)?))
            }
            ("EOR", [to, one, two], _) => {
                Ok(Insn::Xor(self.written(to)?, self.value(one)?, self.value(two)?))
            }
            ("CMP", [one, two], _) if two.starts_with('#') => {
                Ok(Insn::CompareWith(self.value(one)?, number(two)?))
            }
            ("CMP", [one, two], _) => Ok(Insn::Compare(self.value(one)?, self.value(two)?)),
            ("CBZ", [value, to], _) => Ok(Insn::BranchIfZero(self.value(value)?, self.label(to)?)),
            ("B.NE", [to], _) => Ok(Insn::BranchIfNotEqual(self.label(to)?)),
            ("B", [to], _) => Ok(Insn::Branch(self.label(to)?)),
            ("LSR", [to, from, "#12"], _) => self.page_number(to, from),
            ("TLBI", [kind, operand], _) => self.tlbi(kind, operand),
            ("DMB" | "DSB" | "ISB", _, _) => barrier(text).map(Insn::Barrier),
            ("ADR", [to, label], _) => Ok(Insn::AddressOf(self.written(to)?, self.label(label)?)),
            ("MSR", ["ELR_EL1", from], _) => Ok(Insn::SetReturn(self.value(from)?)),
            ("ERET", [], _) => Ok(Insn::ExceptionReturn),
            _ => Err("no instruction of these tests".into()),
        }
    }

    fn load(&self, to: &str, base: &str, order: Ordering) -> Result<Insn, String> {
        let at = self.ordered(base, order)?;
        Ok(Insn::Load(self.written(to)?, at, order))
    }

    fn store(&self, from: &str, base: &str, order: Ordering) -> Result<Insn, String> {
        let at = self.ordered(base, order)?;
        Ok(Insn::Store(self.value(from)?, at, order))
    }

    /// A page number is that of *a*, and what it is put into is good for nothing else.
    fn page_number(&mut self, to: &str, from: &str) -> Result<Insn, String> {
        let to = register(to)?;
        if self.place(from)? != Place::A || !matches!(self.constant(to), None | PAGE_NUMBER) {
            return Err("the page number of what is not a".into());
        }
        self.constants[usize::from(to)] = PAGE_NUMBER;
        Ok(Insn::Nothing)
    }

    fn tlbi(&self, kind: &str, operand: &str) -> Result<Insn, String> {
        if self.constant(register(operand)?) != PAGE_NUMBER {
            return Err("its operand is not the page number of a".into());
        }
        match kind {
            "VAAE1" => Ok(Insn::Tlbi(Tlbi::Vaae1)),
            "VAAE1IS" => Ok(Insn::Tlbi(Tlbi::Vaae1is)),
            "VAALE1IS" => Ok(Insn::Tlbi(Tlbi::Vaale1is)),
            _ => Err("no TLB maintenance of these tests".into()),
        }
    }

    /// Where a base register points to.
    fn place(&self, base: &str) -> Result<Place, String> {
        match self.constant(register(base)?) {
            Some(Constant::Address(place)) => Ok(place),
            _ => Err(format!("{base} holds no address")),
        }
    }

    fn slot(&self, base: &str) -> Result<(), String> {
        match self.place(base)? {
            Place::Slot => Ok(()),
            _ => Err("an atomic on what is no descriptor".into()),
        }
    }

    /// Where a base register points to, for an access by `order`: what may fault has none.
    fn ordered(&self, base: &str, order: Ordering) -> Result<Place, String> {
        match (self.place(base)?, order) {
            (Place::A, Ordering::Acquire | Ordering::Release) => {
                Err("an ordered access of a".into())
            }
            (place, _) => Ok(place),
        }
    }

    /// A register that is read as a value.
    fn value(&self, text: &str) -> Result<Reg, String> {
        let register = register(text)?;
        match self.constant(register) {
            Some(_) => Err(format!("{text} is an address")),
            None => Ok(register),
        }
    }

    /// A register that is written.
    fn written(&self, text: &str) -> Result<Reg, String> {
        self.value(text)
    }

    fn constant(&self, register: Reg) -> Option<Constant> {
        self.constants[usize::from(register)]
    }
}

const PAGE_NUMBER: Option<Constant> = Some(Constant::PageNumber);

/// The register in `text`, by either of its names.
pub fn register(text: &str) -> Result<Reg, String> {
    let number = text.strip_prefix(['X', 'W']).and_then(|number| number.parse::<Reg>().ok());
    let number = number.filter(|number| usize::from(*number) < REGISTERS);
    number.ok_or_else(|| format!("{text} is no register"))
}

fn number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix('#').and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("{text} is no constant"))
}

fn order(suffix: &str) -> Ordering {
    match suffix {
        "A" => Ordering::Acquire,
        "L" => Ordering::Release,
        "AL" => Ordering::AcqRel,
        _ => Ordering::Relaxed,
    }
}

fn barrier(text: &str) -> Result<Barrier, String> {
    match text {
        "DMB ISH" => Ok(Barrier::DmbIsh),
        "DMB ISHST" => Ok(Barrier::DmbIshst),
        "DSB ISH" => Ok(Barrier::DsbIsh),
        "DSB ISHST" => Ok(Barrier::DsbIshst),
        "DSB ISHLD" => Ok(Barrier::DsbIshld),
        "DSB NSH" => Ok(Barrier::DsbNsh),
        "ISB" => Ok(Barrier::Isb),
        _ => Err("no barrier of these tests".to_string()),
    }
}
