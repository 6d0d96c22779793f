"""llama.cpp's server, in a process that ends with the one that started it.

`python -m labsupport.serving.llama_child FILE THREADS CONTEXT` opens a GGUF file and says on a line of JSON
at which port it listens, or what is wrong. llama.cpp is C++: what it cannot bear ends the whole process, and
here that is no kernel with a learner's work in it.
"""

from __future__ import annotations

import json
import sys
import threading

from labsupport.serving.child import end_with_the_starter


def settings(path: str, threads: int, context: int):
    """llama.cpp's parameters: on the processor, as close to transformers in float32 as it goes."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.offline, params.ui, params.warmup, params.fit_params = True, False, False, False
    params.n_parallel, params.n_ctx = 1, context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers, params.no_op_offload = 0, True  # on a Mac it would take the graphics processor
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # float16 by default
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.prefill_assistant = False  # a conversation that ends with a reply is not a reply to go on with
    params.verbosity = 1  # errors
    return params


def main() -> None:
    """Open the file, say where, and serve until the starter closes standard input."""
    end_with_the_starter()
    path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        import xllamacpp

        server = xllamacpp.Server(settings(path, threads, context))
        said = {"port": int(server.listening_address.rpartition(":")[2])}
    except ImportError as error:
        said = {"error": f"its package does not load on this machine: {error}"}
    except RuntimeError as error:
        said = {"error": str(error)}
    print(json.dumps(said), flush=True)
    if "port" in said:
        threading.Event().wait()


if __name__ == "__main__":
    main()
