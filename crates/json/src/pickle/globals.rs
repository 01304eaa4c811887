//! The allow-list: what a pickle may refer to.

use modelark_artifact::Error;
use modelark_artifact::tensor::DType;

/// The globals that a pickle may refer to. None of them is called: each stands for a few lines below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `_reconstruct`, which makes an array that is filled by BUILD.
    Reconstruct,
    /// `_frombuffer`, which protocol 5 uses for contiguous arrays.
    FromBuffer,
    /// `numpy.ndarray`, an argument of `_reconstruct`.
    NdArray,
    /// `numpy.dtype`.
    DType,
    /// `scalar`, for items such as `np.float32(1)`.
    Scalar,
    /// `_codecs.encode`, by which protocols up to 2 spell bytes.
    Encode,
    /// `bytes`, by which protocols up to 2 spell the empty one.
    Bytes,
    /// A type of the package `ml_dtypes`.
    MlDType(DType),
}

impl Global {
    /// The global of this name, if it is on the list.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
            ("numpy", "ndarray") => Global::NdArray,
            ("numpy", "dtype") => Global::DType,
            ("_codecs", "encode") => Global::Encode,
            ("__builtin__" | "builtins", "bytes") => Global::Bytes,
            ("ml_dtypes", name) => Global::MlDType(name.parse().ok().filter(|d: &DType| d.size().is_some())?),
            _ => return None,
        })
    }
}

/// The error for a global that isn't on the list, in a pickle that may be of a Keras model.
pub(super) fn refused(module: &str, name: &str, keras: bool) -> Error {
    let error = Error::unsupported(format!(
        "the pickle refers to {module}.{name}; nothing in a pickle is executed, and only arrays, numbers, strings, lists, tuples and dicts are read"
    ));
    if keras {
        error.help(
            "a pickle of a Keras model opens where it holds the bytes of a .keras archive, as Keras 2.13 and later write \
             it; in the Python that wrote this one, save it with model.save('model.keras'), or pickle model.get_weights()",
        )
    } else {
        error.help("save the arrays alone, with numpy.savez or as a pickle of a list of arrays")
    }
}
