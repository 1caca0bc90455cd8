"""Result packs: answers of simulators that are hard to install, recorded once and shared.

Problems are canonical and answers are keyed by all that decides them, so an answer that one machine has is everybody's.
"""
