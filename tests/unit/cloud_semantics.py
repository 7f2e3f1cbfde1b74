"""The walker's view of plain cloudpickle: what it would do, without safemp's repairs."""

import copyreg
import io
import pickle

import cloudpickle
from cloudpickle import cloudpickle as internals


class CloudSemantics:
    """Answers as ``cloudpickle.dumps`` does."""

    def __init__(self):
        self._pickler = cloudpickle.Pickler(io.BytesIO(), protocol=5)
        self._table = dict(self._pickler.dispatch_table)

    def by_value(self, obj):
        return not internals._should_pickle_by_reference(obj)

    def find_global(self, obj, name):
        try:
            pickle.dumps(obj, 5)
        except Exception as error:
            return str(error)
        return None

    def globals_of(self, function):
        names = internals._extract_code_globals(function.__code__)
        return {name: function.__globals__[name] for name in names if name in function.__globals__}

    def globals_of_module(self, module):
        return None

    def reduce(self, obj):
        reducer = self._table.get(type(obj)) or copyreg.dispatch_table.get(type(obj))
        return obj.__reduce_ex__(5) if reducer is None else reducer(obj)

    def dump(self, obj):
        cloudpickle.dumps(obj, 5)
