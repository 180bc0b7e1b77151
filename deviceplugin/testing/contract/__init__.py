"""What every vendor must keep to, checked from outside: for our own vendors and third parties'.

assert contract_problems(create(Host(root), sections), Host(root)) == []

or, for a module and the trees of its nodes, from a shell:

    python -m deviceplugin.testing.contract acme_gpus --tree tests/node.tree
"""

from deviceplugin.testing.contract.checks import contract_problems
from deviceplugin.testing.contract.module import module_problems, tree_problems

__all__ = ["contract_problems", "module_problems", "tree_problems"]
