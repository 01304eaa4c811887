//! MLIR bytecode: its sections, and the operations in them.
//!
//! A file is a header and sections. Strings, dialects with the names of their operations, attributes and types each have a
//! section and are referred to by number; the IR section holds operations in blocks in regions. Values are numbered as
//! they come, regions that can't look outside numbering their own.

mod entries;

use std::sync::Arc;

use self::entries::Entries;
use crate::bytes::Bytes;
use crate::module::{Block, Function, Module, Op, Value};
use crate::{Attr, Error, Result, Type, properties};

/// Versions of the bytecode that are read: those that MLIR has had.
const NEWEST: u64 = 6;
/// Blocks don't lie deeper in each other.
const DEEPEST: usize = 64;

const MAGIC: &[u8] = b"ML\xefR";

/// Sections, by number.
mod section {
    pub(super) const STRING: u8 = 0;
    pub(super) const DIALECT: u8 = 1;
    pub(super) const ATTR_TYPE: u8 = 2;
    pub(super) const ATTR_TYPE_OFFSET: u8 = 3;
    pub(super) const IR: u8 = 4;
    pub(super) const PROPERTIES: u8 = 8;
    pub(super) const COUNT: usize = 9;
}

/// What an operation's encoding has, by bit.
mod has {
    pub(super) const ATTRS: u8 = 1;
    pub(super) const RESULTS: u8 = 1 << 1;
    pub(super) const OPERANDS: u8 = 1 << 2;
    pub(super) const SUCCESSORS: u8 = 1 << 3;
    pub(super) const REGIONS: u8 = 1 << 4;
    pub(super) const USE_ORDERS: u8 = 1 << 5;
    pub(super) const PROPERTIES: u8 = 1 << 6;
}

/// The name of an operation.
#[derive(Debug, Clone)]
struct OpName {
    /// With the dialect, but for VHLO's, and without the version.
    shown: Arc<str>,
    /// With the version, as the table of properties has it.
    versioned: Arc<str>,
}

/// Reads a module.
pub(crate) fn read(bytes: &[u8]) -> Result<Module> {
    let mut file = Bytes::new(bytes);
    let magic = file.take(4).map_err(|_| Error::new("it is no MLIR bytecode: it is too short"))?;
    if magic != MAGIC {
        let told =
            if bytes.starts_with(b"module") || bytes.starts_with(b"#") || bytes.starts_with(b"\"builtin") {
                "it is MLIR text, as programs wrote before portable artifacts; only bytecode is read"
            } else {
                "it is no MLIR bytecode: it doesn't begin as one"
            };
        return Err(Error::new(told));
    }
    let version = file.number()?;
    if version > NEWEST {
        return Err(
            file.error(format!("it is bytecode of version {version}; versions up to {NEWEST} are read"))
        );
    }
    let producer = String::from_utf8_lossy(file.ended_text()?).into_owned();
    let mut sections: [Option<Bytes<'_>>; section::COUNT] = [None; section::COUNT];
    while !file.is_empty() {
        let (id, content) = file.section()?;
        let place = sections.get_mut(usize::from(id));
        let place = place.ok_or_else(|| content.error(format!("there is no section {id}")))?;
        if place.replace(content).is_some() {
            return Err(content.error(format!("section {id} comes twice")));
        }
    }
    let section = |id: u8, what: &str| {
        let found = sections.get(usize::from(id)).copied().flatten();
        found.ok_or_else(|| Error::new(format!("its section of {what} is missing")))
    };
    let strings = strings(section(section::STRING, "strings")?)?;
    let (dialects, names) = dialects(section(section::DIALECT, "dialects")?, version, &strings)?;
    let offsets = section(section::ATTR_TYPE_OFFSET, "offsets")?;
    let content = section(section::ATTR_TYPE, "attributes and types")?;
    let mut reader = Reader {
        version,
        names,
        entries: Entries::new(&strings, &dialects, offsets, content)?,
        properties: match section(section::PROPERTIES, "properties") {
            Ok(content) => tables(content)?,
            Err(_) => Vec::new(),
        },
        types: Vec::new(),
        scopes: vec![Scope::default()],
        functions: Vec::new(),
    };
    let mut ir = section(section::IR, "operations")?;
    let top = reader.block(&mut ir, 0)?;
    let [module] = &top.ops[..] else {
        return Err(Error::new(format!("it has {} operations on top, not one module", top.ops.len())));
    };
    if &*module.name != "builtin.module" {
        return Err(Error::new(format!("it is {}, not a module", module.name)));
    }
    Ok(Module { producer, functions: reader.functions })
}

fn strings(mut section: Bytes<'_>) -> Result<Vec<&[u8]>> {
    let count = section.count()?;
    // The last one's length comes first.
    let lengths = (0..count).map(|_| section.number()).collect::<Result<Vec<_>>>()?;
    let mut strings = Vec::with_capacity(count);
    for length in lengths.into_iter().rev() {
        let text = section.take(length)?;
        let (_, text) = text.split_last().ok_or_else(|| section.error("a text has no end"))?;
        strings.push(text);
    }
    Ok(strings)
}

/// The names of the dialects, and of the operations.
fn dialects(mut section: Bytes<'_>, version: u64, strings: &[&[u8]]) -> Result<(Vec<Arc<str>>, Vec<OpName>)> {
    let text = |section: &Bytes<'_>, index: u64| {
        let found = usize::try_from(index).ok().and_then(|i| strings.get(i).copied());
        let found = found.and_then(|text| std::str::from_utf8(text).ok());
        found.ok_or_else(|| section.error(format!("there is no text {index}")))
    };
    let mut dialects: Vec<Arc<str>> = Vec::new();
    for _ in 0..section.count()? {
        let name = if version >= 1 {
            let (name, versioned) = section.flagged()?;
            if versioned {
                section.section()?;
            }
            name
        } else {
            section.number()?
        };
        dialects.push(text(&section, name)?.into());
    }
    if version >= 4 {
        section.number()?;
    }
    let mut names = Vec::new();
    while !section.is_empty() {
        let dialect = section.number()?;
        let dialect = usize::try_from(dialect).ok().and_then(|i| dialects.get(i).cloned());
        let dialect =
            dialect.ok_or_else(|| section.error("an operation is of a dialect that isn't there"))?;
        for _ in 0..section.count()? {
            let name = if version >= 5 { section.flagged()?.0 } else { section.number()? };
            names.push(OpName::new(&dialect, text(&section, name)?));
        }
    }
    Ok((dialects, names))
}

impl OpName {
    fn new(dialect: &str, name: &str) -> Self {
        let plain =
            name.rsplit_once("_v").filter(|(_, v)| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
        let shown = match plain {
            Some((plain, _)) if dialect == "vhlo" => plain.into(),
            _ => format!("{dialect}.{name}").into(),
        };
        OpName { shown, versioned: name.into() }
    }
}

/// The parts of a section that each begin with their length.
fn tables(mut section: Bytes<'_>) -> Result<Vec<Bytes<'_>>> {
    let count = section.count()?;
    (0..count)
        .map(|_| {
            let length = section.number()?;
            section.part(length)
        })
        .collect()
}

/// Values by number. A region has a stretch of numbers for those that it makes itself.
#[derive(Default)]
struct Scope {
    values: Vec<Option<Value>>,
    next: usize,
}

struct Reader<'a> {
    version: u64,
    names: Vec<OpName>,
    entries: Entries<'a>,
    properties: Vec<Bytes<'a>>,
    /// The types of all values of the region that numbers its own, in the order in which they come.
    types: Vec<Type>,
    /// For each region that can't look outside: the values in it and in the regions within, by number.
    scopes: Vec<Scope>,
    functions: Vec<Function>,
}

impl<'a> Reader<'a> {
    fn define(&mut self, ty: Type, at: &Bytes<'_>) -> Result<Value> {
        let value = u32::try_from(self.types.len()).map_err(|_| at.error("there are too many values"))?;
        self.types.push(ty);
        let scope = self.scopes.last_mut();
        let place = scope.and_then(|s| {
            s.next += 1;
            s.values.get_mut(s.next - 1)
        });
        *place.ok_or_else(|| at.error("a region makes more values than it says"))? = Some(Value(value));
        Ok(Value(value))
    }

    /// A block's arguments and operations.
    fn block(&mut self, ir: &mut Bytes<'a>, depth: usize) -> Result<Block> {
        let (count, has_args) = ir.flagged()?;
        let mut block = Block::default();
        if has_args {
            for _ in 0..ir.count()? {
                let (ty, located) = if self.version >= 4 { ir.flagged()? } else { (ir.number()?, true) };
                if located {
                    ir.number()?;
                }
                let ty = self.entries.ty(ty)?;
                block.args.push(self.define(ty, ir)?);
            }
            if self.version >= 3 && ir.byte()? != 0 {
                use_orders(ir, block.args.len())?;
            }
        }
        if count > ir.len() as u64 {
            return Err(ir.error("a block counts more operations than there are bytes"));
        }
        block.ops = (0..count).map(|_| self.op(ir, depth)).collect::<Result<_>>()?;
        if block.ops.last().is_some_and(|op| &*op.name == "return") {
            block.results = block.ops.pop().map(|op| op.operands).unwrap_or_default();
        }
        Ok(block)
    }

    fn op(&mut self, ir: &mut Bytes<'a>, depth: usize) -> Result<Op> {
        let place = ir.offset();
        let index = ir.number()?;
        let name = usize::try_from(index).ok().and_then(|i| self.names.get(i)).cloned();
        let name = name.ok_or_else(|| ir.error(format!("there is no operation name {index}")))?;
        let wrong = |message: &str| Error::new(format!("{} {message}", name.shown)).at(place);
        let mask = ir.byte()?;
        // Where it was written.
        ir.number()?;
        let mut attrs = Vec::new();
        if mask & has::ATTRS != 0
            && let Attr::Dict(named) = self.entries.attr(ir.number()?)?
        {
            attrs.extend(named.iter().cloned());
        }
        if mask & has::PROPERTIES != 0 {
            let index = ir.number()?;
            let stored = usize::try_from(index).ok().and_then(|i| self.properties.get(i)).copied();
            let mut stored = stored.ok_or_else(|| wrong("has properties that aren't there"))?;
            for property in properties::names(&name.versioned) {
                attrs.push((property.into(), self.entries.attr(stored.number()?)?));
            }
        }
        let mut types = Vec::new();
        if mask & has::RESULTS != 0 {
            for _ in 0..ir.count()? {
                types.push(self.entries.ty(ir.number()?)?);
            }
        }
        let mut operands = Vec::new();
        if mask & has::OPERANDS != 0 {
            let scope = self.scopes.last().map(|s| &s.values[..]).unwrap_or_default();
            for _ in 0..ir.count()? {
                let index = ir.number()?;
                let value = usize::try_from(index).ok().and_then(|i| scope.get(i)).copied().flatten();
                operands.push(value.ok_or_else(|| wrong("uses a value that isn't made yet"))?);
            }
        }
        if mask & has::SUCCESSORS != 0 {
            return Err(wrong("goes on to another block, as nothing of StableHLO does"));
        }
        if mask & has::USE_ORDERS != 0 {
            use_orders(ir, types.len())?;
        }
        let results = types.into_iter().map(|ty| self.define(ty, ir)).collect::<Result<Vec<_>>>()?;
        let mut op = Op { name: name.shown.clone(), operands, results, attrs, regions: Vec::new() };
        if mask & has::REGIONS != 0 {
            if depth >= DEEPEST {
                return Err(wrong(&format!("lies more than {DEEPEST} deep in others")));
            }
            self.regions(ir, &mut op, depth)?;
        }
        Ok(op)
    }

    fn regions(&mut self, ir: &mut Bytes<'a>, op: &mut Op, depth: usize) -> Result<()> {
        let (count, isolated) = ir.flagged()?;
        let mut own;
        let from = if isolated && self.version >= 2 {
            let (id, content) = ir.section()?;
            if id != section::IR {
                return Err(content.error("an operation's own section holds no operations"));
            }
            own = content;
            &mut own
        } else {
            ir
        };
        if count > from.len() as u64 {
            return Err(from.error("an operation counts more regions than there are bytes"));
        }
        for _ in 0..count {
            if !isolated {
                op.regions.push(self.region(from, depth + 1)?);
                continue;
            }
            self.scopes.push(Scope::default());
            // A function numbers the types of its values anew.
            let is_function = &*op.name == "func";
            let outside = is_function.then(|| std::mem::take(&mut self.types));
            let body = self.region(from, depth + 1);
            self.scopes.pop();
            let Some(outside) = outside else {
                op.regions.push(body?);
                continue;
            };
            let types = std::mem::replace(&mut self.types, outside);
            self.functions.push(function(op, body?, types).map_err(|e| from.error(e))?);
        }
        Ok(())
    }

    /// A region of one block; of none, an empty one.
    fn region(&mut self, ir: &mut Bytes<'a>, depth: usize) -> Result<Block> {
        let blocks = ir.number()?;
        if blocks == 0 {
            return Ok(Block::default());
        }
        if blocks > 1 {
            return Err(ir.error("a region has several blocks, as none of StableHLO's has"));
        }
        let values = ir.count()?;
        let Some(scope) = self.scopes.last_mut() else { return Err(ir.error("a region lies nowhere")) };
        let (outside, next) = (scope.values.len(), scope.next);
        scope.values.resize(outside + values, None);
        scope.next = outside;
        let block = self.block(ir, depth)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.values.truncate(outside);
            scope.next = next;
        }
        Ok(block)
    }
}

fn function(op: &Op, body: Block, types: Vec<Type>) -> Result<Function, &'static str> {
    let name = op.attr("sym_name").and_then(Attr::text).ok_or("a function has no name")?;
    let arg_attrs = op.attr("arg_attrs").and_then(Attr::array).unwrap_or_default();
    Ok(Function { name: name.to_owned(), arg_attrs: arg_attrs.to_vec(), body, types })
}

/// In which order values' uses are listed in memory, which nothing here asks.
fn use_orders(ir: &mut Bytes<'_>, values: usize) -> Result<()> {
    let count = if values > 1 { ir.number()? } else { 1 };
    for _ in 0..count {
        if values > 1 {
            ir.number()?;
        }
        let (uses, _) = ir.flagged()?;
        for _ in 0..uses {
            ir.number()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::{Element, Type};
    use modelark_tensor::DType;

    fn samples() -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/stablehlo");
        let files = fs::read_dir(folder).expect("fixtures").flatten();
        let mut all: Vec<_> = files
            .filter(|f| f.path().extension().is_some_and(|e| e == "mlirbc"))
            .map(|f| (f.file_name().into_string().expect("UTF-8"), fs::read(f.path()).expect("file")))
            .collect();
        all.sort();
        assert!(!all.is_empty());
        all
    }

    fn sample(name: &str) -> Module {
        let all = samples();
        let (_, bytes) = all.iter().find(|(n, _)| n == name).expect("sample");
        read(bytes).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    #[test]
    fn what_jax_wrote_is_read() {
        let module = sample("poly_dense.mlirbc");
        assert!(module.producer.starts_with("StableHLO_v"), "{}", module.producer);
        let main = module.function("main").expect("main");
        let ty = main.ty(main.body.args[0]).tensor().expect("tensor").clone();
        assert_eq!((ty.dims, ty.element), (vec![None, Some(4)], Element::DType(DType::F32)));
        let mut names = Vec::new();
        module.ops(|_, op| names.push(op.name.to_string()));
        assert!(names.iter().any(|n| n == "dot_general") && names.iter().any(|n| n == "tanh"), "{names:?}");
        module.ops(|_, op| {
            if &*op.name == "dot_general" {
                assert_eq!(op.attr("lhs_contracting_dimensions").and_then(Attr::ints), Some(vec![1]));
            }
        });
    }

    #[test]
    fn blocks_see_what_is_around_them() {
        let module = sample("scan.mlirbc");
        let mut loops = 0;
        module.ops(|f, op| {
            if &*op.name == "while" {
                loops += 1;
                let [condition, body] = &op.regions[..] else { panic!("a loop has two blocks") };
                assert_eq!(body.results.len(), op.operands.len());
                let holds = f.ty(condition.results[0]).tensor().map(|t| t.element.clone());
                assert_eq!(holds, Some(Element::DType(DType::Bool)));
                assert!(op.results.iter().all(|r| !matches!(f.ty(*r), Type::Other(_))));
            }
        });
        assert!(loops > 0);
    }

    #[test]
    fn every_version_says_the_same() {
        let told = |module: &Module| {
            let mut told = Vec::new();
            module.ops(|f, op| {
                let ints: Vec<_> =
                    op.attrs.iter().filter_map(|(n, a)| Some((n.to_string(), a.ints()?))).collect();
                let ints: std::collections::BTreeMap<_, _> = ints.into_iter().collect();
                let types: Vec<String> = op.results.iter().map(|r| f.ty(*r).to_string()).collect();
                told.push((op.name.to_string(), op.operands.clone(), types, ints));
            });
            told
        };
        for name in ["poly_dense", "scan"] {
            let want = told(&sample(&format!("{name}.mlirbc")));
            for version in ["0.9.0", "0.12.0", "0.14.0", "0.15.0"] {
                let module = sample(&format!("{name}.{version}.mlirbc"));
                assert_eq!(module.producer, format!("StableHLO_v{version}"));
                assert_eq!(told(&module), want, "{name} of {version}");
            }
        }
    }

    #[test]
    fn what_is_no_bytecode_is_told() {
        let told = |bytes: &[u8]| read(bytes).expect_err("refused").to_string();
        assert!(told(b"module @jit_f {}").contains("text"));
        assert!(told(b"").contains("too short"));
        assert!(told(b"ML\xefR\x41").contains("version 32"));
    }

    #[test]
    fn a_module_cut_short_is_refused() {
        for (name, bytes) in samples() {
            for end in (0..bytes.len() - 1).step_by(7) {
                assert!(read(&bytes[..end]).is_err(), "{name} up to byte {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn damage_is_survived(which in 0usize..100, at in any::<prop::sample::Index>(), byte in any::<u8>(), more in any::<prop::sample::Index>()) {
            let all = samples();
            let (_, bytes) = &all[which % all.len()];
            let mut bytes = bytes.clone();
            bytes[at.index(all[which % all.len()].1.len())] = byte;
            let end = more.index(bytes.len());
            bytes[end] ^= 1;
            let _ = read(&bytes);
        }
    }
}
