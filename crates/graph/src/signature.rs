//! Signatures of ops: names and types of inputs, outputs and attributes, with the attributes' defaults.
//!
//! An op states its signature once, as text beside its kernel:
//!
//! ```text
//! ConcatV2(values: N * T, axis: Tidx) -> (output: T); N: int; T: type; Tidx: type = int32
//! IdentityN(input: [T]) -> (output: [T]); T: list(type)
//! ReadVariableOp(resource: resource) -> (value: dtype); dtype: type; stateful
//! ```
//!
//! An argument's type is a dtype, an attribute that holds one, `N * T` for a list of one dtype, or `[T]` for a list
//! of which attribute `T` lists the dtypes; `&` before it marks a reference to a variable, as TensorFlow 1 has them.
//! The word `stateful` marks side effects.

use modelark_tensor::{DType, PartialShape};

use crate::{Attr, Attrs, Error, Result};

/// The type of an op's input or output argument.
#[derive(Debug, Clone, PartialEq)]
pub enum ArgType {
    /// Always this dtype.
    Fixed(DType),
    /// The dtype that this attribute holds.
    Attr(String),
    /// As many tensors as the first attribute says, each of the inner type.
    Repeated(String, Box<ArgType>),
    /// A tensor for each dtype that this attribute lists.
    List(String),
}

/// An input or output argument.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ArgType,
    /// Whether it is a reference to a variable of TensorFlow 1, as `Assign` takes one.
    pub is_ref: bool,
}

/// An attribute that an op has.
#[derive(Debug, Clone, PartialEq)]
pub struct AttrDef {
    /// Its name.
    pub name: String,
    /// Its kind, as TensorFlow writes it: `int`, `list(type)`, `func` and so on.
    pub kind: String,
    /// What it is when a node doesn't say.
    pub default: Option<Attr>,
}

/// What an op takes and gives (TensorFlow: `OpDef`).
#[derive(Debug, Clone, PartialEq)]
pub struct OpSignature {
    /// The op's name.
    pub name: String,
    /// Its input arguments.
    pub inputs: Vec<ArgDef>,
    /// Its output arguments.
    pub outputs: Vec<ArgDef>,
    /// Its attributes.
    pub attrs: Vec<AttrDef>,
    /// Whether it has side effects or hidden state.
    pub stateful: bool,
}

impl OpSignature {
    /// Reads a signature from its text form.
    ///
    /// # Errors
    /// When the text isn't of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| Error::graph(format!("op signature {text:?}: {what}"));
        let mut clauses = text.split(';').map(str::trim);
        let head = clauses.next().ok_or_else(|| bad("empty"))?;
        let (name, rest) = head.split_once('(').ok_or_else(|| bad("no inputs"))?;
        let (inputs, rest) = rest.split_once(')').ok_or_else(|| bad("no end of inputs"))?;
        let outputs = rest
            .trim()
            .strip_prefix("->")
            .and_then(|o| o.trim().strip_prefix('('))
            .and_then(|o| o.strip_suffix(')'))
            .ok_or_else(|| bad("no outputs"))?;
        let mut signature = OpSignature {
            name: name.trim().to_owned(),
            inputs: parse_args(inputs).ok_or_else(|| bad("bad input"))?,
            outputs: parse_args(outputs).ok_or_else(|| bad("bad output"))?,
            attrs: Vec::new(),
            stateful: false,
        };
        for clause in clauses.filter(|c| !c.is_empty()) {
            if clause == "stateful" {
                signature.stateful = true;
                continue;
            }
            let (name, rest) = clause.split_once(':').ok_or_else(|| bad("attribute without kind"))?;
            let (kind, default) = match rest.split_once('=') {
                Some((kind, value)) => {
                    let kind = kind.trim();
                    let value = parse_default(kind, value.trim()).ok_or_else(|| bad("bad default"))?;
                    (kind, Some(value))
                }
                None => (rest.trim(), None),
            };
            signature.attrs.push(AttrDef { name: name.trim().to_owned(), kind: kind.to_owned(), default });
        }
        Ok(signature)
    }

    /// The attribute `name` of a node: its own, or the op's default.
    pub fn attr<'a>(&'a self, attrs: &'a Attrs, name: &str) -> Option<&'a Attr> {
        attrs.get(name).or_else(|| self.attrs.iter().find(|a| a.name == name)?.default.as_ref())
    }

    /// The dtypes of all inputs of a node with these attributes, flat.
    ///
    /// # Errors
    /// When an attribute that decides them is missing.
    pub fn input_dtypes(&self, attrs: &Attrs) -> Result<Vec<DType>> {
        self.flat(&self.inputs, attrs).map(|groups| groups.into_iter().flatten().collect())
    }

    /// The dtypes of all outputs of a node with these attributes, flat.
    ///
    /// # Errors
    /// When an attribute that decides them is missing.
    pub fn output_dtypes(&self, attrs: &Attrs) -> Result<Vec<DType>> {
        self.flat(&self.outputs, attrs).map(|groups| groups.into_iter().flatten().collect())
    }

    /// The flat index of tensor `index` of output argument `name`: what `node:name:index` means in a function.
    ///
    /// # Errors
    /// When there is no such argument, or an attribute that decides is missing.
    pub fn output_index(&self, attrs: &Attrs, name: &str, index: usize) -> Result<usize> {
        let groups = self.flat(&self.outputs, attrs)?;
        let mut start = 0;
        for (arg, group) in self.outputs.iter().zip(groups) {
            if arg.name == name {
                return if index < group.len() {
                    Ok(start + index)
                } else {
                    Err(Error::graph(format!("output {name:?} of {} has no tensor {index}", self.name)))
                };
            }
            start += group.len();
        }
        Err(Error::graph(format!("{} has no output {name:?}", self.name)))
    }

    /// The argument's name and the index within it of the flat output `index`: the inverse of [`Self::output_index`].
    ///
    /// # Errors
    /// When there are fewer outputs, or an attribute that decides is missing.
    pub fn output_name(&self, attrs: &Attrs, index: usize) -> Result<(&str, usize)> {
        let groups = self.flat(&self.outputs, attrs)?;
        let mut rest = index;
        for (arg, group) in self.outputs.iter().zip(groups) {
            if rest < group.len() {
                return Ok((&arg.name, rest));
            }
            rest -= group.len();
        }
        Err(Error::graph(format!("{} has no output {index}", self.name)))
    }

    /// Whether the flat input `index` is a reference to a variable.
    pub fn input_is_ref(&self, attrs: &Attrs, index: usize) -> bool {
        self.is_ref(&self.inputs, attrs, index)
    }

    /// Whether the flat output `index` is a reference to a variable.
    pub(crate) fn output_is_ref(&self, attrs: &Attrs, index: usize) -> bool {
        self.is_ref(&self.outputs, attrs, index)
    }

    fn is_ref(&self, args: &[ArgDef], attrs: &Attrs, index: usize) -> bool {
        if args.iter().all(|a| !a.is_ref) {
            return false;
        }
        let groups = self.flat(args, attrs).unwrap_or_default();
        let mut flags =
            args.iter().zip(groups).flat_map(|(arg, group)| std::iter::repeat_n(arg.is_ref, group.len()));
        flags.nth(index).unwrap_or_default()
    }

    /// The attributes that follow from inputs of these dtypes, beside those given; checks the inputs' count and types.
    ///
    /// # Errors
    /// When the inputs don't fit the signature.
    pub fn infer_attrs(&self, inputs: &[DType], attrs: &mut Attrs) -> Result<()> {
        let mut rest = inputs;
        let lists =
            self.inputs.iter().filter(|a| matches!(a.ty, ArgType::List(_) | ArgType::Repeated(..))).count();
        let singles = self.inputs.len() - lists;
        let wrong = || {
            Error::graph(format!("{} takes {} inputs, got dtypes {inputs:?}", self.name, self.inputs.len()))
        };
        for arg in &self.inputs {
            let mut take = |n: usize| -> Result<&[DType]> {
                let (head, tail) = rest.split_at_checked(n).ok_or_else(wrong)?;
                rest = tail;
                Ok(head)
            };
            match &arg.ty {
                ArgType::Fixed(want) => {
                    let got = take(1)?[0];
                    if got != *want {
                        return Err(Error::graph(format!(
                            "input {:?} of {} must be {want}, got {got}",
                            arg.name, self.name
                        )));
                    }
                }
                ArgType::Attr(attr) => {
                    let got = take(1)?[0];
                    self.agree(attrs, attr, Attr::Type(got), &arg.name)?;
                }
                ArgType::Repeated(count, inner) => {
                    let n = match attrs.get(count).and_then(Attr::as_int) {
                        Some(n) => usize::try_from(n).map_err(|_| wrong())?,
                        // A single list takes what the other arguments leave.
                        None if lists == 1 => inputs.len().checked_sub(singles).ok_or_else(wrong)?,
                        None => {
                            return Err(Error::graph(format!("{} needs its attribute {count:?}", self.name)));
                        }
                    };
                    let got = take(n)?;
                    attrs.get_or_insert(count, Attr::Int(n as i64));
                    if let ArgType::Attr(attr) = &**inner {
                        for &dtype in got {
                            self.agree(attrs, attr, Attr::Type(dtype), &arg.name)?;
                        }
                    }
                }
                ArgType::List(attr) => {
                    let n = match attrs.get(attr).and_then(Attr::as_list) {
                        Some(list) => list.len(),
                        None if lists == 1 => inputs.len().checked_sub(singles).ok_or_else(wrong)?,
                        None => {
                            return Err(Error::graph(format!("{} needs its attribute {attr:?}", self.name)));
                        }
                    };
                    let got = Attr::from(take(n)?);
                    self.agree(attrs, attr, got, &arg.name)?;
                }
            }
        }
        if !rest.is_empty() {
            return Err(wrong());
        }
        for def in &self.attrs {
            if let (None, Some(default)) = (attrs.get(&def.name), &def.default) {
                attrs.insert(def.name.clone(), default.clone());
            }
        }
        match self.attrs.iter().find(|d| !attrs.contains_key(&d.name)) {
            Some(missing) => {
                Err(Error::graph(format!("{} needs its attribute {:?}", self.name, missing.name)))
            }
            None => Ok(()),
        }
    }

    fn agree(&self, attrs: &mut Attrs, name: &str, value: Attr, arg: &str) -> Result<()> {
        match attrs.get(name) {
            Some(old) if *old != value => Err(Error::graph(format!(
                "input {arg:?} of {} has {name} = {value:?}, but {name} is {old:?}",
                self.name
            ))),
            Some(_) => Ok(()),
            None => {
                attrs.insert(name.to_owned(), value);
                Ok(())
            }
        }
    }

    fn flat(&self, args: &[ArgDef], attrs: &Attrs) -> Result<Vec<Vec<DType>>> {
        args.iter().map(|a| self.arg_dtypes(&a.ty, attrs)).collect()
    }

    fn arg_dtypes(&self, ty: &ArgType, attrs: &Attrs) -> Result<Vec<DType>> {
        // More outputs than this are no graph's, only an attack's.
        const MOST: usize = 1 << 20;
        let missing = |name: &str| Error::graph(format!("{} needs its attribute {name:?}", self.name));
        match ty {
            ArgType::Fixed(d) => Ok(vec![*d]),
            ArgType::Attr(name) => {
                Ok(vec![self.attr(attrs, name).and_then(Attr::as_type).ok_or_else(|| missing(name))?])
            }
            ArgType::Repeated(count, inner) => {
                let n = self.attr(attrs, count).and_then(Attr::as_int).ok_or_else(|| missing(count))?;
                let n = usize::try_from(n)
                    .ok()
                    .filter(|n| *n <= MOST)
                    .ok_or_else(|| Error::graph(format!("{}: {count} = {n} is out of range", self.name)))?;
                let one = self.arg_dtypes(inner, attrs)?;
                Ok(one.iter().copied().cycle().take(n * one.len()).collect())
            }
            ArgType::List(name) => self
                .attr(attrs, name)
                .and_then(Attr::as_list)
                .and_then(|l| l.iter().map(Attr::as_type).collect())
                .ok_or_else(|| missing(name)),
        }
    }
}

fn parse_args(text: &str) -> Option<Vec<ArgDef>> {
    text.split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .map(|a| {
            let (name, ty) = a.split_once(':')?;
            let ty = ty.trim();
            let (is_ref, ty) = ty.strip_prefix('&').map_or((false, ty), |ty| (true, ty));
            Some(ArgDef { name: name.trim().to_owned(), ty: parse_type(ty)?, is_ref })
        })
        .collect()
}

fn parse_type(text: &str) -> Option<ArgType> {
    if let Some((count, inner)) = text.split_once('*') {
        return Some(ArgType::Repeated(count.trim().to_owned(), Box::new(parse_type(inner.trim())?)));
    }
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return Some(ArgType::List(list.trim().to_owned()));
    }
    if text.is_empty() {
        return None;
    }
    Some(match text.parse() {
        Ok(dtype) => ArgType::Fixed(dtype),
        Err(_) => ArgType::Attr(text.to_owned()),
    })
}

fn parse_default(kind: &str, text: &str) -> Option<Attr> {
    if let Some(kind) = kind.strip_prefix("list(").and_then(|k| k.strip_suffix(')')) {
        let items = text.strip_prefix('[')?.strip_suffix(']')?;
        let items = items.split(',').map(str::trim).filter(|i| !i.is_empty());
        return items.map(|i| parse_default(kind, i)).collect::<Option<Vec<_>>>().map(Attr::List);
    }
    Some(match kind {
        "int" => Attr::Int(text.parse().ok()?),
        "float" => Attr::Float(text.parse().ok()?),
        "bool" => Attr::Bool(text.parse().ok()?),
        "type" => Attr::Type(text.parse().ok()?),
        "string" => {
            let text = text.strip_prefix('"')?.strip_suffix('"')?;
            Attr::String(text.replace("\\t", "\t").replace("\\n", "\n").into_bytes())
        }
        "shape" => match text {
            "?" => Attr::Shape(PartialShape::UNKNOWN),
            "()" => Attr::Shape(PartialShape::scalar()),
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> OpSignature {
        OpSignature::parse(text).expect("signature")
    }

    #[test]
    fn a_signature_says_everything() {
        let s =
            parse("Split(split_dim: int32, value: T) -> (output: num_split * T); num_split: int; T: type");
        let mut attrs = Attrs::from([("num_split".to_owned(), Attr::Int(3))]);
        s.infer_attrs(&[DType::I32, DType::F64], &mut attrs).expect("fits");
        assert_eq!(attrs["T"], Attr::Type(DType::F64));
        assert_eq!(s.output_dtypes(&attrs).expect("outputs"), [DType::F64; 3]);
        assert_eq!(s.output_index(&attrs, "output", 2).expect("index"), 2);
        assert_eq!(s.output_name(&attrs, 2).expect("name"), ("output", 2));
        assert!(s.output_index(&attrs, "output", 3).is_err());
        assert!(s.infer_attrs(&[DType::F32, DType::F64], &mut Attrs::new()).is_err());
    }

    #[test]
    fn lists_take_what_is_left() {
        let s =
            parse("ConcatV2(values: N * T, axis: Tidx) -> (output: T); N: int; T: type; Tidx: type = int32");
        let mut attrs = Attrs::new();
        s.infer_attrs(&[DType::F32, DType::F32, DType::I64], &mut attrs).expect("fits");
        assert_eq!((&attrs["N"], &attrs["Tidx"]), (&Attr::Int(2), &Attr::Type(DType::I64)));
        assert!(s.infer_attrs(&[DType::F32, DType::F64, DType::I32], &mut Attrs::new()).is_err());

        let s = parse("IdentityN(input: [T]) -> (output: [T]); T: list(type)");
        let mut attrs = Attrs::new();
        s.infer_attrs(&[DType::F32, DType::String], &mut attrs).expect("fits");
        assert_eq!(s.output_dtypes(&attrs).expect("outputs"), [DType::F32, DType::String]);
    }

    #[test]
    fn defaults_are_filled_in() {
        let s = parse(
            "X(a: T) -> (b: float32); T: type; s: string = \"a\\tb\"; l: list(int) = [1, -2]; f: float = 1e-4; \
             z: list(int) = []; sh: shape = ?; stateful",
        );
        assert!(s.stateful);
        let mut attrs = Attrs::new();
        s.infer_attrs(&[DType::I8], &mut attrs).expect("fits");
        assert_eq!(attrs["s"].as_str(), Some("a\tb"));
        assert_eq!(attrs["l"], Attr::List(vec![Attr::Int(1), Attr::Int(-2)]));
        assert_eq!(attrs["f"], Attr::Float(1e-4));
        let needs = parse("Y() -> (); k: int");
        assert!(needs.infer_attrs(&[], &mut Attrs::new()).is_err());
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "A", "A(", "A() -> x", "A(b) -> ()", "A() -> (); k", "A() -> (); k: int = x"] {
            assert!(OpSignature::parse(text).is_err(), "{text}");
        }
    }
}
