"""A Jinja2 environment for templates that strangers write: no code, no files, no endless output.

Bounds names, methods and tags; what things cost is mail/template_bounds. Never renders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from campaign_worker.mail import links_stamps
from campaign_worker.mail import template_bounds as bounds

_STR_METHODS = frozenset({
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
    "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower", "lstrip",
    "partition", "removeprefix", "removesuffix", "rfind", "rpartition", "rsplit", "rstrip",
    "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip
_METHODS: tuple[tuple[type | tuple[type, ...], frozenset[str]], ...] = (
    (str, _STR_METHODS),
    ((int, float), frozenset()),
    # The last two are what `groupby` gives.
    ((list, tuple), frozenset({"count", "index", "grouper", "list"})),
    (dict, frozenset({"get", "items", "keys", "values"})),
)
_REFUSED_TAGS: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from import",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class Sandbox(ImmutableSandboxedEnvironment):
    """ImmutableSandboxedEnvironment with bounds on sizes, an allow-list of methods and filters."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "/", "-"})

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=autoescape,
            finalize=bounds.finalize,
            keep_trailing_newline=True,
            cache_size=0,
        )
        self.filters = bounds.allowed_filters() | links_stamps.FILTERS
        keep = ("dict", "namespace", "cycler", "joiner")
        self.globals = {name: self.globals[name] for name in keep} | {"range": bounds.bounded_range}
        self.tests |= bounds.bounded_tests()
        self.tests["none"] = lambda value: value is None or isinstance(value, bounds.Null)

    def bounded(self, source: str) -> nodes.Template:
        """Parse, refuse tags that a mail has no use for, and meter loops, joins and comparisons.

        Raises jinja2.TemplateSyntaxError.
        """
        tree = self.parse(source)
        for kind, tag in _REFUSED_TAGS.items():
            found = tree.find(kind)
            if found is not None:
                raise TemplateSyntaxError(f"the tag {tag!r} is not available", found.lineno)
        for loop in list(tree.find_all(nodes.For)):
            size = 1 + sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
            items = cast("nodes.Expr", loop.iter)
            loop.iter = _call("metered", [items, nodes.Const(size)], loop.lineno)
        return cast("nodes.Template", _Metering().visit(tree))

    def metered(self, items: Iterable[Any], size: int) -> Iterator[Any]:
        """Pay for each turn of a loop, by the size of what the loop prints itself."""
        if isinstance(items, Undefined):
            # Let it raise its own error, which names the variable.
            iter(items)
        return _metered(items, size)

    def joined(self, *values: Any) -> str:
        """Do what `~` does, within bounds."""
        texts = [bounds.finalize(value) for value in values]
        bounds.check_length(sum(map(len, texts)))
        if any(isinstance(text, Markup) for text in texts):
            return Markup("").join(texts)
        return "".join(texts)

    def wrap_str_format(self, value: Any) -> None:
        """Refuse `str.format`: its widths could fill the memory."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("the method 'format' is not available; the filter 'format' is")

    def call(self, context: Any, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call, and pay for the size of what the method works on, and works with."""
        target = getattr(obj, "__self__", None)
        if target is not self:
            bounds.pay_together([target, *arguments, *named.values()])
        return super().call(context, obj, *arguments, **named)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up, and pay for the key: that of a dict is looked at to its depth."""
        bounds.pay_for_all_of(argument)
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow harmless methods of plain values only: `ljust`, `replace` could fill the memory."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        return True

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the result could be huge."""
        for value in (left, right):
            if isinstance(value, Undefined):
                # Undefined operands raise their own error, which names the variable.
                return super().call_binop(context, operator, left, right)
        _check_operands(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        bounds.pay_for(result)
        if isinstance(result, int) and result.bit_length() > bounds.MAX_INTEGER_BITS:
            bounds.too_big()
        return result


def _check_operands(operator: str, left: Any, right: Any) -> None:
    if operator == "**":
        raise SecurityError("'**' is not available")
    if operator == "%" and isinstance(left, str):
        raise SecurityError("'%' does not format texts here; the filter 'format' does")
    sizes = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
    if operator == "+" and sizes:
        limit = bounds.MAX_OUTPUT if isinstance(left, str) else bounds.MAX_ITEMS
        if sum(sizes) > limit:
            bounds.too_big()
    if operator == "*" and sizes:
        limit = (
            bounds.MAX_OUTPUT
            if isinstance(left, str) or isinstance(right, str)
            else bounds.MAX_ITEMS
        )
        times = [value for value in (left, right) if isinstance(value, int)]
        if times and sizes[0] * max(times[0], 0) > limit:
            bounds.too_big()


def _metered(items: Iterable[Any], size: int) -> Iterator[Any]:
    for item in items:
        bounds.spend(size)
        yield item


def _call(method: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    function = nodes.EnvironmentAttribute(method, lineno=line)
    return nodes.Call(function, arguments, [], None, None, lineno=line)


class _Metering(NodeTransformer):
    """Has all be paid for that the compiler offers no hook for.

    `a ~ b` becomes a call of Sandbox.joined; what is compared, cut or a key goes through a filter.
    """

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's naming
        self.generic_visit(node)
        return _call("joined", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare | nodes.Operand) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _paid(node.expr)
        return node

    # The left side of a comparison stands in the one, what it is compared with in the other.
    visit_Operand = visit_Compare  # noqa: N815

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _paid(node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        node.key = _paid(node.key)
        return node


def _paid(value: nodes.Expr) -> nodes.Expr:
    if isinstance(value, nodes.Const):
        return value
    return nodes.Filter(value, bounds.PAID, [], [], None, None, lineno=value.lineno)


HTML = Sandbox(autoescape=True)
"""For HTML parts: what is printed is escaped."""

TEXT = Sandbox(autoescape=False)
"""For subjects and text parts."""
