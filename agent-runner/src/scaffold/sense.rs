//! What one text asks for. A word is understood by itself and its neighbours, not by grammar; where that could be wrong the
//! text counts as unclear. The outputs say what each requirement was taken for, so that a person sees it.

mod parts;

use super::lexicon::{Form, Meaning};
use super::plan::{Feature, Operation, Quality};
use parts::{Part, parts};

/// Something that a text asks for or excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Operation(Operation),
    /// The four operations, not one by one.
    Four,
    Feature(Feature),
    Quality(Quality),
}

/// What a text asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// In the order of the text; false: excluded.
    pub asks: Vec<(Thing, bool)>,
    /// The operations that it names are to be the only ones.
    pub only: bool,
    /// It says that the project is a calculator.
    pub calculator: bool,
    /// Words that are not in the lexicon.
    pub unknown: Vec<String>,
    /// A word of which it is not clear what it refers to.
    pub unclear: Option<String>,
}

/// Reads a text.
pub fn read(text: &str) -> Sense {
    let parts = parts(text);
    let mut reader = Reader {
        parts: &parts,
        sense: Sense::default(),
        scope: None,
        statement: Statement::default(),
        list: false,
    };
    for index in 0..parts.len() {
        reader.take(index);
    }
    let mut sense = reader.sense;
    sense.unknown.dedup();
    sense
}

/// What a negation covers so far.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// Where the negation stands.
    begin: usize,
    /// How the first operation was named that it covers.
    form: Option<Form>,
}

/// Where in the asks the statement began of which a part is read.
#[derive(Clone, Copy, Debug, Default)]
struct Statement {
    begin: usize,
    /// Its verb was read.
    verb: bool,
    /// A list in it was closed by `and`.
    closed: bool,
    /// Where a second statement may begin: behind the first separator after the verb.
    second: Option<usize>,
}

struct Reader<'parts> {
    parts: &'parts [Part],
    sense: Sense,
    /// Set while a negation goes on.
    scope: Option<Scope>,
    statement: Statement,
    /// The four operations are followed by a list, which says better what is meant.
    list: bool,
}

impl Reader<'_> {
    fn meaning(&self, index: usize) -> Meaning {
        self.parts.get(index).map_or(Meaning::Stop, |part| part.meaning)
    }

    fn before(&self, index: usize) -> Meaning {
        index
            .checked_sub(1)
            .map_or(Meaning::Stop, |before| self.meaning(before))
    }

    /// The first part from `index` on that is none of `skipped`.
    fn from(&self, index: usize, skipped: &[Meaning]) -> usize {
        let skipped = |at: &usize| skipped.contains(&self.meaning(*at));
        index + (index..self.parts.len()).take_while(skipped).count()
    }

    fn text(&self, index: usize) -> String {
        self.parts
            .get(index)
            .map(|part| part.text.clone())
            .unwrap_or_default()
    }

    fn unclear(&mut self, index: usize) {
        let text = self.text(index);
        self.sense.unclear.get_or_insert(text);
    }

    fn take(&mut self, index: usize) {
        match self.meaning(index) {
            Meaning::Operation(operation, form) => {
                if self.list && self.scope.is_none() {
                    self.sense.asks.retain(|ask| *ask != (Thing::Four, true));
                    self.list = false;
                }
                self.ask(Thing::Operation(operation), form);
            }
            Meaning::Four => self.ask(Thing::Four, Form::Noun),
            Meaning::Feature(feature) => self.ask(Thing::Feature(feature), Form::Noun),
            Meaning::Quality(quality) => self.ask(Thing::Quality(quality), Form::Noun),
            Meaning::Calculator => self.sense.calculator = true,
            Meaning::Stop => {
                self.begin_statement();
                self.list = false;
            }
            Meaning::But => self.begin_statement(),
            Meaning::Not => self.negate(index),
            Meaning::Needless => self.negate_back(index),
            Meaning::Only => self.only(index),
            Meaning::Comma => self.comma(index),
            Meaning::And => self.and(index),
            Meaning::Colon | Meaning::Open => self.list |= self.before(index) == Meaning::Four,
            Meaning::Statement => self.statement.verb = true,
            Meaning::Unknown | Meaning::Bound | Meaning::Share => {
                let text = self.text(index);
                self.sense.unknown.push(text);
            }
            Meaning::Filler
            | Meaning::With
            | Meaning::Article
            | Meaning::Needed
            | Meaning::Or
            | Meaning::Close
            | Meaning::Coverage
            | Meaning::Operand
            | Meaning::Control => {}
        }
    }

    fn ask(&mut self, thing: Thing, form: Form) {
        if let Some(scope) = &mut self.scope {
            scope.form.get_or_insert(form);
        }
        self.sense.asks.push((thing, self.scope.is_none()));
    }

    /// A negation ends here, and nothing that follows refers to what was read.
    fn begin_statement(&mut self) {
        self.scope = None;
        self.statement = Statement {
            begin: self.sense.asks.len(),
            ..Statement::default()
        };
    }

    fn negate(&mut self, index: usize) {
        let verb = self.from(index + 1, &[Meaning::Statement]);
        let ends = |meaning| {
            matches!(
                meaning,
                Meaning::Stop | Meaning::Comma | Meaning::And | Meaning::But
            )
        };
        if self.meaning(verb) == Meaning::Needed && ends(self.meaning(verb + 1)) {
            self.negate_back(index);
            return;
        }
        let begins = matches!(
            self.before(index),
            Meaning::Comma | Meaning::And | Meaning::Or | Meaning::Open
        );
        if self.scope.is_some() && !begins {
            // Two negations may cancel each other out.
            self.unclear(index);
        }
        self.scope = Some(Scope {
            begin: index,
            form: None,
        });
    }

    /// `Division is not needed`: the negation comes after what it covers.
    fn negate_back(&mut self, index: usize) {
        let Statement { begin, second, .. } = self.statement;
        let covered = self
            .sense
            .asks
            .get_mut(second.unwrap_or(begin)..)
            .unwrap_or_default();
        let clear = match &*covered {
            [] => false,
            [(_, wanted)] => *wanted,
            several => second.is_none() && several.iter().all(|(_, wanted)| *wanted),
        };
        for (_, wanted) in covered {
            *wanted = false;
        }
        if !clear || self.scope.is_some() {
            self.unclear(index);
        }
    }

    /// `Only addition`, `addition only`.
    fn only(&mut self, index: usize) {
        if self.scope.is_some() && self.before(index) == Meaning::Comma {
            self.begin_statement();
        }
        let passed = [
            Meaning::Statement,
            Meaning::Filler,
            Meaning::Article,
            Meaning::Operand,
        ];
        let next = self.meaning(self.from(index + 1, &passed));
        let named = self.sense.asks.get(self.statement.begin..).unwrap_or_default();
        let last =
            next == Meaning::Stop && matches!(named.last(), Some((Thing::Operation(_) | Thing::Four, true)));
        self.sense.only |= last || matches!(next, Meaning::Operation(..) | Meaning::Four);
    }

    /// A separator after the verb may begin a second statement; after a closed list it does.
    fn separate(&mut self) {
        if self.statement.closed {
            let verb = self.statement.verb;
            self.statement = Statement {
                begin: self.sense.asks.len(),
                verb,
                ..Statement::default()
            };
        } else if self.statement.verb {
            self.statement.second.get_or_insert(self.sense.asks.len());
        }
    }

    fn comma(&mut self, index: usize) {
        self.separate();
        if self.scope.is_none() {
            return;
        }
        let next = self.from(index + 1, &[Meaning::And, Meaning::Or]);
        match self.meaning(next) {
            Meaning::Not | Meaning::But | Meaning::Only => {}
            _ if is_thing(self.meaning(self.from(next, &[Meaning::Article]))) => self.list_goes_on(index),
            _ => self.begin_statement(),
        }
    }

    /// In `no memory, history or theme` the negation covers the whole list, which only its last separator tells.
    fn list_goes_on(&mut self, index: usize) {
        let rest = self.parts.get(index + 1..).unwrap_or_default();
        let last = rest.iter().map(|part| part.meaning).find(|meaning| {
            !is_thing(*meaning)
                && !matches!(
                    meaning,
                    Meaning::Comma | Meaning::Article | Meaning::Operand | Meaning::Control | Meaning::Filler
                )
        });
        match last {
            Some(Meaning::Or) => {}
            Some(Meaning::Statement) => self.begin_statement(),
            _ => self.unclear(self.scope.map_or(index, |scope| scope.begin)),
        }
    }

    fn and(&mut self, index: usize) {
        if self.statement.verb {
            self.separate();
        }
        self.statement.closed = true;
        let Some(scope) = self.scope else { return };
        match self.meaning(index + 1) {
            Meaning::Statement | Meaning::With => self.begin_statement(),
            Meaning::Operation(_, form) if scope.form.is_some_and(|first| first != form) => {
                self.unclear(index);
            }
            Meaning::Article => self.unclear(index),
            _ => {}
        }
    }
}

fn is_thing(meaning: Meaning) -> bool {
    matches!(
        meaning,
        Meaning::Operation(..) | Meaning::Four | Meaning::Feature(_) | Meaning::Quality(_)
    )
}
