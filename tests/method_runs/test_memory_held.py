"""What a method takes of memory in training."""

from labsupport.method_runs import memory_held


def test_dora_keeps_more_than_lora_and_lora_trains_what_it_should():
    lora, dora = (memory_held.held(method) for method in ("lora", "dora"))
    assert dora["kept"] > 1.5 * lora["kept"]
    assert lora["trained"] == 217_088 and lora["optimizer"] == 12 * 217_088
