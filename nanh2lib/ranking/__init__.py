"""Ranking: duplicates out, energy order, nothing left out silently."""

from nanh2lib.ranking.duplicates import DuplicateSettings, group_duplicates, matches
from nanh2lib.ranking.rank import RankedTable, RankingSettings, rank, rerank

__all__ = ["DuplicateSettings", "RankedTable", "RankingSettings", "group_duplicates", "matches", "rank", "rerank"]
