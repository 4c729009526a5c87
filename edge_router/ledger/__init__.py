"""The local record of decisions: one row per answer in an SQLite file, never sent anywhere."""

from edge_router.ledger.book import Ledger
from edge_router.ledger.message import message_of
from edge_router.ledger.records import NothingRecorded, Record, Summary

__all__ = ["Ledger", "NothingRecorded", "Record", "Summary", "message_of"]
