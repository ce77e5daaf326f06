"""Trees for tests of what tells calls apart."""

from jax.tree_util import register_pytree_node_class


@register_pytree_node_class
class Own:
    """Tree of a program's own class, with static data that has no name."""

    def __init__(self, w, static):
        self.w, self.static = w, static

    def tree_flatten(self):
        return (self.w,), self.static

    @classmethod
    def tree_unflatten(cls, static, children):
        return cls(*children, static)
