//! What a guest told of its random operations, and whether the model agrees.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use mix::ground::Ground;
use mix::judge::judge;
use mix::model::Model;
use mix::note::Note;
use mix::op::Ops;
use mix::reply::{Digest, Reply};
use mix::{BATCH, Batch, CPUS, Phase};

/// The phases whose replies the model foresees.
const FORESEEN: [Phase; 2] = [Phase::Shared, Phase::Own];

/// Which operations were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The seed.
    pub seed: u64,
    /// How many, in all phases together.
    pub count: u64,
}

/// What the guest told.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// By phase and CPU: the digest of each batch.
    batches: BTreeMap<(&'static str, usize), Vec<String>>,
    /// By phase and CPU: `last` and `books`.
    ends: BTreeMap<(&'static str, usize), [Option<String>; 2]>,
    /// The operations of a batch that was wanted in full.
    pub full: BTreeMap<u64, String>,
    notes: [Vec<Note>; CPUS],
    /// What each CPU found of its words at the end.
    lost: [Option<String>; CPUS],
    /// The books of the arena of the last phase.
    books: Option<String>,
}

/// What a comparison came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The model agrees; what was compared.
    Agreed(String),
    /// The first batch that differs.
    Differs(Batch),
    /// Something else is wrong.
    Wrong(String),
}

impl Told {
    /// Takes a line, without `mix: `.
    ///
    /// # Errors
    /// It says nothing that is known.
    pub fn line(&mut self, line: &str) -> Result<()> {
        let (head, value) = line.split_once(": ").context("a line without a value")?;
        let words: Vec<_> = head.split(' ').collect();
        let index = |word: &str| -> Result<usize> {
            let cpu: usize = word.parse()?;
            ensure!(cpu < CPUS, "CPU {cpu}");
            Ok(cpu)
        };
        let phase = |name: &str| {
            let known = FORESEEN.into_iter().find(|phase| phase.name() == name);
            known.map(Phase::name).with_context(|| format!("phase {name}"))
        };
        match words[..] {
            ["anywhere", "books"] => self.books = Some(value.into()),
            ["anywhere", cpu, "lost"] => self.lost[index(cpu)?] = Some(value.into()),
            ["anywhere", cpu, "from", first] => self.notes(index(cpu)?, first.parse()?, value)?,
            [name, cpu, "batch", number] => {
                let digests = self.batches.entry((phase(name)?, index(cpu)?)).or_default();
                ensure!(number.parse() == Ok(digests.len()), "batch {number} out of turn");
                digests.push(value.into());
            }
            [_, _, "operation", number] => drop(self.full.insert(number.parse()?, value.into())),
            [name, cpu, "last"] => self.end(phase(name)?, index(cpu)?)[0] = Some(value.into()),
            [name, cpu, "books"] => self.end(phase(name)?, index(cpu)?)[1] = Some(value.into()),
            _ => bail!("{head:?} is nothing known"),
        }
        Ok(())
    }

    fn end(&mut self, phase: &'static str, cpu: usize) -> &mut [Option<String>; 2] {
        self.ends.entry((phase, cpu)).or_default()
    }

    fn notes(&mut self, cpu: usize, first: usize, text: &str) -> Result<()> {
        let notes = &mut self.notes[cpu];
        ensure!(first == notes.len(), "notes from {first} on, and {} came before", notes.len());
        for word in text.split(' ') {
            let last = notes.last().map_or(0, |note| note.after);
            notes.push(Note::parse(word, last).with_context(|| format!("the note {word:?}"))?);
        }
        Ok(())
    }

    /// Compares with what the model says.
    pub fn compare(&self, asked: Asked) -> Finding {
        let mut first: Option<Batch> = None;
        let mut models = Vec::new();
        for phase in FORESEEN {
            for cpu in 0..CPUS {
                let (model, differs) = self.foresee(asked, phase, cpu);
                models.push((phase, cpu, model));
                let earlier = |batch: &Batch| first.is_none_or(|first| batch.number < first.number);
                first = differs.filter(earlier).or(first);
            }
            // A batch behind another phase's difference tells nothing more.
            if let Some(batch) = first {
                return Finding::Differs(batch);
            }
        }
        match self.ends_agree(&models).and_then(|()| self.judged(asked)) {
            Ok(anywhere) => {
                let replies: u64 = FORESEEN.map(|phase| phase.each(asked.count)).iter().sum();
                let replies = replies * CPUS as u64;
                Finding::Agreed(format!("{replies} replies are the model's; {anywhere}"))
            }
            Err(error) => Finding::Wrong(format!("{error:#}")),
        }
    }

    /// The model behind the operations of `cpu`, and the first batch that is told and differs, or that
    /// is not told.
    fn foresee(&self, asked: Asked, phase: Phase, cpu: usize) -> (Model, Option<Batch>) {
        let told = self.batches.get(&(phase.name(), cpu)).map_or(&[][..], Vec::as_slice);
        let mut run = Run::new(asked, phase, cpu);
        let mut differs = None;
        for number in 0..phase.each(asked.count).div_ceil(BATCH) {
            let mut digest = Digest::default();
            run.batch(number, |_, _, reply| digest.reply(reply));
            if differs.is_none() && told.get(number as usize) != Some(&digest.to_string()) {
                differs = Some(Batch { phase, cpu, number });
            }
        }
        (run.model, differs)
    }

    /// What pages hold in the end and what the books say, which an arena has once for all its CPUs.
    fn ends_agree(&self, models: &[(Phase, usize, Model)]) -> Result<()> {
        for (phase, cpu, model) in models {
            let alone = Ground::of(*phase, *cpu).alone;
            let of_arena = models.iter().filter(|(p, c, _)| p == phase && (!alone || c == cpu));
            let books = sum(of_arena.map(|(_, _, model)| model));
            let expected = [model.last().to_string(), books];
            let told = self.ends.get(&(phase.name(), *cpu));
            for (n, what) in ["pages", "books (mapped, free, scratched, lost)"].iter().enumerate() {
                let told = told.and_then(|told| told[n].as_deref()).unwrap_or("nothing");
                ensure!(
                    told == expected[n],
                    "{phase}, cpu {cpu}, the {what} at the end: the model says {}, the arena {told}",
                    expected[n]
                );
            }
        }
        Ok(())
    }

    /// The last phase.
    fn judged(&self, asked: Asked) -> Result<String> {
        let each = Phase::Anywhere.each(asked.count) as usize;
        // First: a note that is wrong says more than one that is missing.
        let books = judge(asked.seed, &self.notes).map_err(|wrong| anyhow!("anywhere, {wrong}"))?;
        for (cpu, notes) in self.notes.iter().enumerate() {
            let (told, lost) = (notes.len(), self.lost[cpu].as_deref());
            ensure!(told == each, "anywhere, cpu {cpu}: {told} notes of {each}");
            ensure!(lost == Some("0"), "anywhere, cpu {cpu}: words lost at the end: {lost:?}");
        }
        let free = mix::hand::PAGES - books.mapped;
        let expected = format!("{} {free} {}", books.mapped, books.last);
        let told = self.books.as_deref().unwrap_or("nothing");
        ensure!(
            told == expected,
            "anywhere, mapped, free, pages at the end: the notes say {expected}, the arena {told}"
        );
        Ok(format!(
            "some order explains {} notes, {} refusals among them and {} that crossed others",
            each * CPUS,
            books.refused,
            books.crossed
        ))
    }

    /// The first operation of `batch` whose reply, told in full, is not the model's.
    pub fn first_difference(&self, asked: Asked, batch: Batch) -> Option<String> {
        let mut run = Run::new(asked, batch.phase, batch.cpu);
        (0..batch.number).for_each(|number| run.batch(number, |_, _, _| {}));
        let mut found = None;
        run.batch(batch.number, |number, op, reply| {
            let told = self.full.get(&number).map_or("says nothing", String::as_str);
            if found.is_none() && told != reply.to_string() {
                let Batch { phase, cpu, number: batch } = batch;
                found = Some(format!(
                    "{phase}, cpu {cpu}, batch {batch}, operation {number} ({op}): \
                     the model says {reply}, the arena {told}"
                ));
            }
        });
        found
    }
}

/// The operations of one CPU on its model.
struct Run {
    ops: Ops,
    model: Model,
    total: u64,
}

impl Run {
    fn new(asked: Asked, phase: Phase, cpu: usize) -> Self {
        let model = Model::new(Ground::of(phase, cpu));
        Self { ops: Ops::new(phase, cpu, asked.seed), model, total: phase.each(asked.count) }
    }

    /// Does the batch that comes next, which is `number`.
    fn batch(&mut self, number: u64, mut each: impl FnMut(u64, mix::op::Op, Reply)) {
        for at in number * BATCH..self.total.min((number + 1) * BATCH) {
            let op = self.ops.draw();
            each(at, op, self.model.apply(op));
        }
    }
}

/// Mapped, free and scratched pages of the models of one arena, and lost installs: on ground of one's
/// own nobody else installs.
fn sum<'a>(models: impl Iterator<Item = &'a Model>) -> String {
    let mut sums = (0, 0, 0);
    for model in models {
        if let Reply::Books { mapped, free, scratched, .. } = model.books() {
            sums = (sums.0 + mapped, sums.1 + free, sums.2 + scratched);
        }
    }
    format!("{} {} {} 0", sums.0, sums.1, sums.2)
}

#[cfg(test)]
mod tests;
