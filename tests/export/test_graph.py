from __future__ import annotations

import numpy as np
import onnx

from export.folding import fold_model
from export.graph import Graph
from export.graph_body import open_bodies
from tests.export.sketch import Sketch


def _chain() -> Graph:
    s = Sketch()
    first = s.op("Relu", s.input("N", 4, name="x"))
    second = s.op("Identity", first)
    s.output(s.op("Tanh", second))
    return Graph(s.model().graph)


def test_producers_and_uses():
    graph = _chain()
    relu, identity, tanh = graph.nodes
    assert graph.producer(relu.output) is relu
    assert graph.producer("x") is None
    assert [use.node for use in graph.uses(relu.output)] == [identity]
    assert [use.node for use in graph.uses(tanh.output)] == [None]  # an output of the graph


def test_bypass_keeps_the_name_that_readers_know():
    graph = _chain()
    relu, identity, tanh = graph.nodes
    known = identity.output
    graph.bypass(identity)
    assert [node.op_type for node in graph.nodes] == ["Relu", "Tanh"]
    assert relu.output == tanh.input(0) == known
    assert graph.producer(known) is relu
    assert identity not in graph
    assert len(graph.proto.node) == 2


def test_bypass_of_a_shared_value_turns_its_readers_round():
    s = Sketch()
    x = s.input("N", 4)
    copied = s.op("Identity", x)
    s.output(s.op("Relu", x), s.op("Tanh", copied))
    graph = Graph(s.model().graph)
    identity = graph.nodes[0]
    assert graph.can_bypass(identity)
    graph.bypass(identity)
    assert [node.inputs for node in graph.nodes] == [["x"], ["x"]]


def test_a_node_comes_between_a_value_and_its_readers():
    graph = _chain()
    relu, identity, tanh = graph.nodes
    value = relu.output
    graph.rename_output(value, "raw")
    between = graph.insert(onnx.helper.make_node("Abs", ["raw"], [value]), before=identity)
    assert [node.op_type for node in graph.proto.node] == ["Relu", "Abs", "Identity", "Tanh"]
    assert graph.nodes == [relu, between, identity, tanh]
    assert (graph.producer("raw"), graph.producer(value)) == (relu, between)
    assert (graph.only_reader("raw"), graph.only_reader(value)) == (between, identity)
    assert graph.only_reader(tanh.output) is None  # an output of the graph


def test_readers_are_redirected_but_for_those_that_are_to_stay():
    graph = _chain()
    relu, identity, _ = graph.nodes
    value = relu.output
    graph.redirect(value, "x", but=[identity])
    assert graph.only_reader(value) is identity
    graph.redirect(value, "x")
    assert identity.input(0) == "x"
    assert graph.remove_unread() == [relu]


def test_a_node_between_an_input_and_an_output_cannot_go():
    s = Sketch()
    s.output(s.op("Identity", s.input("N", 4)))
    graph = Graph(s.model().graph)
    assert not graph.can_bypass(graph.nodes[0])


def test_what_a_body_inside_reads_counts_as_read():
    s = Sketch()
    kept = s.op("Relu", s.input("N", 4))
    flag = s.input(name="flag", element=onnx.TensorProto.BOOL)
    output = onnx.helper.make_tensor_value_info("inner", s.element, None)
    node = onnx.helper.make_node("Tanh", [kept], ["inner"])
    branch = onnx.helper.make_graph([node], "branch", [], [output])
    other = onnx.helper.make_graph([node], "other", [], [output])
    s.output(s.op("If", flag, then_branch=branch, else_branch=other))
    graph = Graph(s.model().graph)
    assert {use.slot for use in graph.uses(kept)} == {-1}
    assert graph.remove_unread() == []


def test_constants_are_computed_and_shapes_known():
    s = Sketch()
    x = s.input(2, 3, 4)
    size = s.op("Shape", x)
    doubled = s.op("Mul", size, s.constant(np.array([2, 2, 2])))
    s.output(s.op("Reshape", x, s.op("Div", doubled, s.constant(np.array([2, 2, 2])))))
    (body,) = open_bodies(s.model())
    np.testing.assert_array_equal(body.constant(doubled), [4, 6, 8])
    assert body.constant(x) is None
    assert body.shape(x) == (2, 3, 4)
    assert body.size(x, -1) == 4
    assert body.rank("nothing of that name") is None


def test_fresh_names_are_free_in_the_whole_model():
    (body,) = open_bodies(_model_with_names("w_folded", "w_folded_1"))
    assert body.add_constant(np.zeros(2, np.float32), "w_folded") == "w_folded_2"
    assert body.add_constant(np.zeros(2, np.float32), "w") == "w"


def _model_with_names(*names: str) -> onnx.ModelProto:
    s = Sketch()
    value = s.input("N", 4)
    for name in names:
        value = s.op("Add", value, s.constant(np.zeros(4), name=name))
    s.output(value)
    return s.model()


def _function(*nodes: onnx.NodeProto, **attributes: object) -> onnx.ModelProto:
    """Return a model that calls a function of these nodes, from x to y, with these attributes."""
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)]
    function = onnx.helper.make_function(
        "local", "Block", ["x"], ["y"], nodes, imports[:1], attributes=list(attributes)
    )
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3, 4, 4])
        for name in "xy"
    ]
    call = onnx.helper.make_node("Block", ["x"], ["y"], domain="local", **attributes)
    graph = onnx.helper.make_graph([call], "calls", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[function])


def _node(operator: str, inputs: str, output: str, **parameters: int) -> onnx.NodeProto:
    """Return a node whose attributes are parameters of its function, each of the given type."""
    node = onnx.helper.make_node(operator, inputs.split(), [output])
    for name, kind in parameters.items():
        node.attribute.add(name=name, ref_attr_name=name, type=kind)
    return node


def _weight(name: str, *shape: int) -> onnx.NodeProto:
    tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
    return onnx.helper.make_node("Constant", [], [name], value=tensor)


def test_what_only_the_caller_of_a_function_knows_is_no_constant():
    kinds = onnx.AttributeProto
    scaled = _function(
        _node("Constant", "", "a", value_float=kinds.FLOAT),
        _node("Mul", "x a", "y"),
        value_float=2.0,
    )
    merged = _function(
        _weight("w", 3, 3, 1, 1),
        _node("Conv", "x w", "a", strides=kinds.INTS),
        _node("Conv", "x w", "b", strides=kinds.INTS),
        _node("Add", "a b", "y"),
        strides=[1, 1],
    )
    grouped = _function(
        _weight("w", 3, 3, 1, 1),
        _weight("k", 3, 1, 1),
        _node("ConvTranspose", "x w", "a", group=kinds.INT),
        _node("Mul", "a k", "y"),
        group=1,
    )
    for model in (scaled, merged, grouped):
        folded, _ = fold_model(model)
        assert folded.functions == model.functions


def test_notes_on_quantisation_name_what_is_there():
    s = Sketch()
    convolved = s.conv(s.input("N", 3, 4, 4), 3, 3)
    normed = s.batch_norm(convolved, 3)
    s.output(s.op("Relu", normed))
    model = s.model()
    for value in (convolved, normed):
        note = model.graph.quantization_annotation.add(tensor_name=value)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="unit")
    model.graph.initializer.add(name="unit", data_type=1, dims=[1], float_data=[0.5])
    folded, _ = fold_model(model)
    assert [note.tensor_name for note in folded.graph.quantization_annotation] == [normed]
    assert "unit" in {tensor.name for tensor in folded.graph.initializer}
