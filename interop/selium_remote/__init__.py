"""A small client of the Selium control plane, written from docs/PROTOCOL.md alone.

It exists to find out whether that page is enough. It is no product: no reconnecting and no tuning.

::

    client ──► connection ──► frames, messages, credit, outbox, envelope ──► fields, varint
       └─────► operations ──► fields                    log_record (stands alone)

Only ``client`` does I/O; everything else takes bytes and gives bytes.
"""
