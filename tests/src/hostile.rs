//! Files from strangers: each parser as a function from any bytes, for fuzzers, mutated files and kept finds alike.
//!
//! Whatever the bytes, a target ends soon, with a model or with an error, and takes no more memory than the limits say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use modelark::artifact::{ErrorKind, Memory};
use modelark::graph::engine::{Executable, Resources, RunOptions, Values};
use modelark::graph::{self, Attr, Graph, Library, Node, Output};
use modelark::tensor::memory::Budget;
use modelark::{DType, Error, Limits, Load, Open, Place, Registry, Result, Tensor};

use modelark_stablehlo::Module;

use crate::fixtures;

/// One parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on the command line, and in `fuzz/`.
    pub name: &'static str,
    /// The format that reads it.
    format: &'static str,
    /// What the file is called; the folder, or the prefix, where there are several.
    pub file: &'static str,
    /// The list of telling words, in `fuzz/dictionaries`, that a fuzzer puts in.
    pub dictionary: &'static str,
    /// Which of the fixtures' files are whole ones to start from: the ends of their names, or the names of folders.
    seeds: &'static [&'static str],
    /// Whether the bytes hold several files, as [`pack`] puts them together.
    packed: bool,
}

const fn single(
    name: &'static str,
    format: &'static str,
    file: &'static str,
    dictionary: &'static str,
    seeds: &'static [&'static str],
) -> Target {
    Target { name, format, file, dictionary, seeds, packed: false }
}

const fn packed(
    name: &'static str,
    format: &'static str,
    dictionary: &'static str,
    seeds: &'static [&'static str],
) -> Target {
    Target { name, format, file: "m", dictionary, seeds, packed: true }
}

/// Stands for a format where the bytes are a picture that an op decodes.
const PICTURE: &str = "picture";

/// Stands for a format where the bytes are a StableHLO module that a node of a graph holds.
const MODULE: &str = "module";

/// All parsers.
pub const TARGETS: &[Target] = &[
    packed("saved_model", "saved_model", "protobuf", &["/saved_model.pb"]),
    packed("saved_model_text", "saved_model", "text", &["/saved_model.pbtxt"]),
    packed("checkpoint", "checkpoint", "table", &[".index"]),
    single("checkpoint_v1", "checkpoint", "m.ckpt", "table", &["v1/model.ckpt-7"]),
    single("graph", "frozen_graph", "m.pb", "protobuf", &["frozen_v1.pb", "frozen_v2.pb", "frozen_loops.pb"]),
    single("graph_text", "frozen_graph", "m.pbtxt", "text", &["/graph.pbtxt"]),
    single("hdf5", "h5", "m.h5", "hdf5", &["model.h5"]),
    single("weights_hdf5", "weights_h5", "m.weights.h5", "hdf5", &["model.weights.h5"]),
    single("keras_archive", "keras", "m.keras", "zip", &["model.keras"]),
    single("json", "json", "m.json", "json", &["model.json"]),
    single("yaml", "yaml", "m.yaml", "json", &["model.yaml"]),
    single("npy", "npy", "m.npy", "numpy", &[".npy"]),
    single("npz", "npz", "m.npz", "zip", &["weights.npz"]),
    single("picture", PICTURE, "m.jpg", "jpeg", &[".jpg"]),
    single("stablehlo", MODULE, "m.mlirbc", "stablehlo", &[".mlirbc"]),
    single("pickle", "pickle", "m.pkl", "numpy", &[".pkl"]),
    single("safetensors", "safetensors", "m.safetensors", "json", &["weights.safetensors"]),
];

/// Limits that a service may set for files that anybody can send.
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.tensor_bytes = 64 << 20;
    limits.expanded_bytes = 64 << 20;
    limits.text_bytes = 4 << 20;
    limits.items = 100_000;
    limits.depth = 64;
    limits.run_bytes = 64 << 20;
    limits.run_time = Some(Duration::from_secs(2));
    limits.run_steps = Some(100_000);
    limits
}

impl Target {
    /// The target of this name.
    pub fn of(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|t| t.name == name)
    }

    /// Reads the bytes with everything that could be done to them: all variables are loaded, and a model is made of them
    /// and run.
    ///
    /// # Errors
    /// Why the bytes are refused. Anything else than an error (a panic, a hang) is a find.
    pub fn run(&self, bytes: &[u8]) -> Result<()> {
        if self.format == PICTURE {
            return decode(bytes);
        }
        if self.format == MODULE {
            return call_module(bytes);
        }
        let (open, load) = (Open::new().format(self.format), Load::new().format(self.format));
        use_all(open, load, &self.place(bytes), &limits())
    }

    fn place(&self, bytes: &[u8]) -> Place {
        let mut files = Memory::new();
        if self.packed {
            for (name, content) in unpack(bytes) {
                let name = match name.strip_prefix('.') {
                    Some(_) => format!("{}{name}", self.file),
                    None => format!("{}/{name}", self.file),
                };
                files.insert(name, content.to_vec());
            }
        } else {
            files.insert(self.file, bytes.to_vec());
        }
        Place::in_memory(files, self.file)
    }

    /// Files of the fixtures that it reads, as bytes for [`Target::run`], small ones first.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        const LARGEST: u64 = 256 << 10;
        let mut found = Vec::new();
        let mut folders = vec![fixtures::folder()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.to_string_lossy();
                if self.seeds.iter().any(|end| name.ends_with(end))
                    && entry.metadata().is_ok_and(|m| m.len() < LARGEST)
                {
                    found.extend(self.seed(&path));
                }
            }
        }
        found.sort_by_key(|f: &Vec<u8>| (f.len(), f.clone()));
        found.dedup();
        found
    }

    fn seed(&self, path: &Path) -> Option<Vec<u8>> {
        if !self.packed {
            return fs::read(path).ok();
        }
        let folder = path.parent()?;
        let mut files = Vec::new();
        if self.format == "checkpoint" {
            let prefix = path.file_stem()?.to_str()?;
            for entry in fs::read_dir(folder).ok()?.flatten() {
                let name = entry.file_name().into_string().ok()?;
                if let Some(rest) = name.strip_prefix(prefix).filter(|r| r.starts_with('.')) {
                    files.push((rest.to_owned(), fs::read(entry.path()).ok()?));
                }
            }
        } else {
            for below in ["", "variables", "assets"] {
                for entry in fs::read_dir(folder.join(below)).into_iter().flatten().flatten() {
                    let name = entry.file_name().into_string().ok()?;
                    if let Ok(content) = fs::read(entry.path()) {
                        files.push((Path::new(below).join(name).to_str()?.to_owned(), content));
                    }
                }
            }
        }
        files.sort();
        Some(pack(&files))
    }
}

/// Does with a file everything that could be done to it: all variables are loaded, and a model is made of it and run once.
///
/// # Errors
/// Why it is refused: the first reason.
pub fn use_all(open: Open, load: Load, place: &Place, limits: &Limits) -> Result<()> {
    let (artifact, format) = open.limits(limits.clone()).place(place)?;
    let mut refused = None;
    for (_, path, variable) in artifact.objects.variables() {
        if let Err(e) = variable.load() {
            refused.get_or_insert(e.at(format!("variable {path:?}")).in_file(place.label()));
        }
    }
    for function in artifact.functions.iter().flat_map(|f| f.library.iter()) {
        if let Err(e) = function {
            refused.get_or_insert(e.into());
        }
    }
    if let (Some(architecture), "json" | "yaml") = (&artifact.architecture, format.name()) {
        modelark::nn::Model::from_architecture(architecture, &Registry::default())
            .map_err(|e| e.in_file(place.label()))?;
    } else if artifact.functions.is_some() || artifact.architecture.is_some() {
        run(&load.limits(limits.clone()).place(place)?)?;
    }
    refused.map_or(Ok(()), Err)
}

/// Runs a model once on zeros.
fn run(model: &modelark::Model) -> Result<()> {
    let Ok(endpoint) = model.default_endpoint() else { return Ok(()) };
    let mut inputs: Vec<(String, Tensor)> = Vec::new();
    for port in &endpoint.inputs {
        let dims = port.shape.dims().unwrap_or_default();
        let shape: Vec<usize> = dims.iter().map(|d| d.unwrap_or(2)).collect();
        let small = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= 1 << 16);
        if !small || matches!(port.dtype, DType::Resource | DType::Variant) {
            return Ok(());
        }
        inputs.push((port.name.clone(), Tensor::zeros(port.dtype, shape).map_err(Error::from)?));
    }
    model.predict(inputs).map(|_| ())
}

/// Decodes a picture, in the ways that a JPEG can be.
fn decode(bytes: &[u8]) -> Result<()> {
    let refused = |e: graph::Error| Error::new(ErrorKind::Invalid, e.to_string());
    let ways: [(&str, &[(&str, Attr)]); 4] = [
        ("DecodeImage", &[]),
        (
            "DecodeJpeg",
            &[("channels", Attr::Int(3)), ("dct_method", Attr::String(b"INTEGER_ACCURATE".to_vec()))],
        ),
        ("DecodeJpeg", &[("ratio", Attr::Int(2)), ("fancy_upscaling", Attr::Bool(false))]),
        (
            "DecodeJpeg",
            &[("try_recover_truncated", Attr::Bool(true)), ("acceptable_fraction", Attr::Float(0.0))],
        ),
    ];
    let budget = Budget::new(limits().run_bytes as usize);
    let mut result = Ok(());
    for (op, attrs) in ways {
        let node = |name: &str, op: &str, inputs, attrs| Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs,
            attrs,
            ..Node::default()
        };
        let (fed, decoded) = (Output::new(0, 0), Output::new(1, 0));
        let dtype = graph::Attrs::from([("T".to_owned(), Attr::Type(DType::String))]);
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let nodes = vec![node("contents", graph::ARG, vec![], dtype), node("image", op, vec![fed], attrs)];
        let graph = Graph { nodes };
        let run = Executable::new(&graph, &Library::new(), &[fed], &[decoded], &[]).map_err(refused)?;
        let _entered = budget.enter();
        let inputs = Values::from_iter([Tensor::scalar_string(bytes.to_vec()).into()]);
        result = result.and(run.run(&Resources::new(), inputs).map(|_| ()).map_err(refused));
    }
    result
}

/// Calls a StableHLO module on zeros of the shapes that it declares, two where an extent is open.
fn call_module(bytes: &[u8]) -> Result<()> {
    let refused = |e: String| Error::new(ErrorKind::Invalid, e);
    let module = Module::read(bytes).map_err(|e| refused(e.to_string()))?;
    let Some(main) = module.function("main") else {
        return Err(refused("it has no main function".to_owned()));
    };
    let limits = limits();
    let mut inputs = Values::new();
    for value in &main.body.args {
        let Some(ty) = main.ty(*value).tensor() else { continue };
        let shape: Vec<usize> = ty.dims.iter().map(|d| d.unwrap_or(2)).collect();
        let small = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= 1 << 16);
        let Some(dtype) = ty.element.dtype().filter(|_| small) else { return Ok(()) };
        inputs.push(Tensor::zeros(dtype, shape).map_err(Error::from)?.into());
    }
    let types: Vec<DType> = inputs.iter().map(|v| v.dtype()).collect();
    let mut nodes: Vec<Node> = types
        .iter()
        .enumerate()
        .map(|(i, dtype)| Node {
            name: format!("x{i}"),
            op: graph::ARG.to_owned(),
            attrs: graph::Attrs::from([("T".to_owned(), Attr::Type(*dtype))]),
            ..Node::default()
        })
        .collect();
    let fed: Vec<Output> = (0..types.len()).map(|i| Output::new(i, 0)).collect();
    let none = || Attr::List(Vec::new());
    let attrs = [
        ("version".to_owned(), Attr::Int(9)),
        ("module".to_owned(), Attr::String(bytes.to_vec())),
        ("Tin".to_owned(), types.into()),
        ("Tout".to_owned(), none()),
        ("Sout".to_owned(), none()),
    ];
    let name = "module".to_owned();
    nodes.push(Node {
        name,
        op: "XlaCallModule".to_owned(),
        inputs: fed.clone(),
        attrs: attrs.into(),
        ..Node::default()
    });
    let target = nodes.len() - 1;
    let run = Executable::new(&Graph { nodes }, &Library::new(), &fed, &[], &[target]);
    let options = RunOptions {
        time: limits.run_time,
        max_steps: limits.run_steps,
        max_depth: limits.depth,
        max_bytes: limits.run_bytes as usize,
        ..RunOptions::default()
    };
    let run = run.map_err(|e| refused(e.to_string()))?;
    run.run_with(&Resources::new(), inputs, &options).map(|_| ()).map_err(|e| refused(e.to_string()))
}

/// Several files as one: for each the length of its name, the name, the length of its content, the content.
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        out.push(name.len() as u8);
        out.extend(&name.as_bytes()[..name.len().min(255)]);
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(content);
    }
    out
}

/// The files of [`pack`]; what is cut off is left out.
pub fn unpack(bytes: &[u8]) -> Vec<(String, &[u8])> {
    fn one<'a>(rest: &mut &'a [u8]) -> Option<(String, &'a [u8])> {
        let (&length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(length.into())?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = (u32::from_le_bytes(*length) as usize).min(after.len());
        let (content, after) = after.split_at(length);
        *rest = after;
        Some((String::from_utf8_lossy(name).into_owned(), content))
    }
    let mut rest = bytes;
    std::iter::from_fn(|| one(&mut rest)).collect()
}

/// How long a target may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Random numbers, the same for the same seed on every machine (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }
}

/// A damaged copy of a file: bits flipped, bytes set to telling values, cut short, parts doubled, removed or taken from
/// another file.
pub fn mutate(file: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = file.to_vec();
    for _ in 0..1 + random.below(4) {
        if out.is_empty() {
            out.push(0);
        }
        let at = random.below(out.len());
        let length = 1 + random.below((out.len() - at).min(64));
        match random.below(8) {
            0 | 1 => out[at] ^= 1 << random.below(8),
            2 => out[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => {
                let value: [u8; 8] =
                    [0u64, 1, u64::MAX, 1 << 31, 1 << 62, i64::MAX as u64][random.below(6)].to_le_bytes();
                let width = [2, 4, 8][random.below(3)].min(out.len() - at);
                out[at..at + width].copy_from_slice(&value[..width]);
            }
            4 => out.truncate(at),
            5 => drop(out.drain(at..at + length)),
            6 => {
                let part = out[at..at + length].to_vec();
                out.splice(at..at, part);
            }
            _ => {
                let from = random.below(other.len());
                let part: Vec<u8> = other.iter().skip(from).take(length * 8).copied().collect();
                let end = (at + part.len()).min(out.len());
                out.splice(at..end, part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_reads_its_seeds() {
        for target in TARGETS {
            let seeds = target.seeds();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            let read = seeds.iter().filter(|s| target.run(s).is_ok()).count();
            assert!(read * 2 >= seeds.len(), "{}: {read} of {} seeds are read", target.name, seeds.len());
        }
    }

    #[test]
    fn packed_files_come_apart_again() {
        let files = [("a/b".to_owned(), vec![1, 2, 3]), (".index".to_owned(), vec![])];
        let packed = pack(&files);
        let back: Vec<(String, Vec<u8>)> =
            unpack(&packed).into_iter().map(|(n, c)| (n, c.to_vec())).collect();
        assert_eq!(back, files);
        assert_eq!(unpack(&packed[..packed.len() - 2]).len(), 1);
    }
}
