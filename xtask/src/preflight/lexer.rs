//! Words, strings and comments of Rust and SQL: as much of a lexer as it takes to tell one from the other.

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier, a keyword or a number.
    Word(String),
    /// The content of a string literal, escapes left as they are.
    Text(String),
    /// The content of a comment.
    Comment(String),
    /// Anything else.
    Sign(char),
}

/// A token and the lines that it is on, from 1.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
    pub(super) last_line: usize,
}

impl Token {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(found) if found == word)
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub(super) fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::Comment(_))
    }
}

/// A place in a text.
struct Cursor {
    text: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

/// The tokens of Rust.
pub(super) fn rust(text: &str) -> Vec<Token> {
    let mut cursor = Cursor::new(text);
    while let Some(c) = cursor.peek(0) {
        let start = cursor.at;
        match c {
            '/' if cursor.peek(1) == Some('/') => cursor.line_comment(2),
            '/' if cursor.peek(1) == Some('*') => cursor.block_comment(true),
            '"' => cursor.string('"', true),
            '\'' => cursor.char_or_lifetime(),
            _ if is_word(c) => {
                let mut end = start;
                while cursor.text.get(end).copied().is_some_and(is_word) {
                    end += 1;
                }
                let prefix: String = cursor.text[start..end].iter().collect();
                match (prefix.as_str(), cursor.text.get(end).copied()) {
                    ("b" | "c", Some('"')) => {
                        cursor.at = end;
                        cursor.string('"', true);
                    }
                    ("b", Some('\'')) => {
                        cursor.at = end;
                        cursor.char_or_lifetime();
                    }
                    ("r" | "br" | "cr", Some('"' | '#')) if cursor.raw_string(end) => {}
                    _ => cursor.push_to(end, Kind::Word(prefix)),
                }
            }
            _ => cursor.other(c),
        }
    }
    cursor.tokens
}

/// The tokens of SQL, words in small letters.
pub(super) fn sql(text: &str) -> Vec<Token> {
    let mut cursor = Cursor::new(text);
    while let Some(c) = cursor.peek(0) {
        match c {
            '-' if cursor.peek(1) == Some('-') => cursor.line_comment(2),
            '/' if cursor.peek(1) == Some('*') => cursor.block_comment(false),
            '\'' => cursor.string('\'', false),
            _ if is_word(c) => {
                let mut end = cursor.at;
                while cursor.text.get(end).copied().is_some_and(is_word) {
                    end += 1;
                }
                let word: String = cursor.text[cursor.at..end].iter().collect();
                cursor.push_to(end, Kind::Word(word.to_lowercase()));
            }
            _ => cursor.other(c),
        }
    }
    cursor.tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Cursor {
    fn new(text: &str) -> Self {
        Cursor { text: text.chars().collect(), at: 0, line: 1, tokens: Vec::new() }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Takes everything up to `end` as one token.
    fn push_to(&mut self, end: usize, kind: Kind) {
        let end = end.min(self.text.len());
        let line = self.line;
        self.line += self.text[self.at..end].iter().filter(|c| **c == '\n').count();
        self.at = end;
        self.tokens.push(Token { kind, line, last_line: self.line });
    }

    fn slice(&self, from: usize, to: usize) -> String {
        self.text.get(from..to.min(self.text.len())).unwrap_or_default().iter().collect()
    }

    fn other(&mut self, c: char) {
        if c.is_whitespace() {
            self.line += usize::from(c == '\n');
            self.at += 1;
        } else {
            self.push_to(self.at + 1, Kind::Sign(c));
        }
    }

    fn line_comment(&mut self, marks: usize) {
        let end = (self.at..self.text.len()).find(|i| self.text[*i] == '\n').unwrap_or(self.text.len());
        self.push_to(end, Kind::Comment(self.slice(self.at + marks, end)));
    }

    fn block_comment(&mut self, nested: bool) {
        let (mut end, mut depth) = (self.at + 2, 1);
        while depth > 0 && end < self.text.len() {
            match (self.text[end], self.text.get(end + 1)) {
                ('*', Some('/')) => (depth, end) = (depth - 1, end + 2),
                ('/', Some('*')) if nested => (depth, end) = (depth + 1, end + 2),
                _ => end += 1,
            }
        }
        self.push_to(end, Kind::Comment(self.slice(self.at + 2, end.saturating_sub(2))));
    }

    fn string(&mut self, quote: char, escapes: bool) {
        let mut end = self.at + 1;
        while let Some(c) = self.text.get(end) {
            match c {
                '\\' if escapes => end += 2,
                c if *c == quote => break,
                _ => end += 1,
            }
        }
        self.push_to(end + 1, Kind::Text(self.slice(self.at + 1, end)));
    }

    /// Takes a raw string whose prefix ends at `hashes`; false when it is a raw identifier.
    fn raw_string(&mut self, hashes: usize) -> bool {
        let quote = (hashes..self.text.len()).find(|i| self.text[*i] != '#').unwrap_or(self.text.len());
        if self.text.get(quote) != Some(&'"') {
            return false;
        }
        let count = quote - hashes;
        let closes =
            |i: &usize| self.text[*i] == '"' && (1..=count).all(|n| self.text.get(i + n) == Some(&'#'));
        let end = (quote + 1..self.text.len()).find(closes).unwrap_or(self.text.len());
        self.push_to(end + 1 + count, Kind::Text(self.slice(quote + 1, end)));
        true
    }

    fn char_or_lifetime(&mut self) {
        let end = match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                let after = self.at + 3;
                (after..self.text.len()).find(|i| self.text[*i] == '\'').unwrap_or(self.text.len()) + 1
            }
            (Some(_), Some('\'')) => self.at + 3,
            _ => self.at + 1,
        };
        self.push_to(end, Kind::Sign('\''));
    }
}
