"""Instruction tuning on real data: the examples it learns from, forty questions that it has not seen, and its rewards.

    python .ci/instruct.py mix --data FOLDER --out mix.jsonl     # a balanced part of FOLDER/instruct/train.jsonl
    hnet_finetune instruct --data mix.jsonl --how full --lr 3e-4 --batch-size 16 --epochs 2 --out runs/chat
    python .ci/instruct.py ask --model runs/chat/model           # writes nbs/results/instruct.jsonl
    python .ci/instruct.py reward --model runs/chat/model --data FOLDER --texts news.txt   # writes nbs/results/policy*.csv

`ask` keeps a verdict (`follows`, filled in by hand) where the answer has not changed. `reward` trains adapters by the
cultural policy (`improve`) and counts what the policy finds in answers before and after, with the guard off.
"""
import argparse
import json
import random
from collections import Counter, defaultdict
from pathlib import Path
import pandas as pd
from hnet_amharic.config import PACKAGE
from hnet_amharic.guard import default_guard
from hnet_amharic.pairs import PairModel, answers
from hnet_amharic.prefer import improve, policy_reward
from hnet_amharic.tasks import pair_turns

RESULTS = Path(__file__).resolve().parent.parent/'nbs'/'results'
LEFT_OUT = {'define', 'emotion'}                                 # old dictionaries; labels of a classifier
TIMES = dict(chat=5, fidel=5, calendar=5, culture_qa=2)          # few rows, read more often
FEWER = dict(entities=300, term_am_en=300)

QUESTIONS = [
    ('translate_en_am', 'ከእንግሊዝኛ ወደ አማርኛ ተርጉምልኝ።\nThe president arrived in Addis Ababa on Monday.'),
    ('translate_en_am', 'የሚከተለውን ጽሑፍ ወደ አማርኛ ተርጉም።\nFarmers say that the rain came late this year.'),
    ('translate_am_en', 'የሚከተለውን ጽሑፍ ወደ እንግሊዝኛ ተርጉም።\nጠቅላይ ሚኒስትሩ ትናንት ወደ ኬንያ ተጓዙ።'),
    ('translate_am_en', 'ይህን የአማርኛ ጽሑፍ በእንግሊዝኛ ጻፍ።\nአዲሱ ትምህርት ቤት በመስከረም ይከፈታል።'),
    ('translate_ui', 'ይህን የሶፍትዌር መልእክት ወደ አማርኛ ተርጉም።\nDelete this file?'),
    ('translate_ui', 'የሚከተለውን የስልክ ወይም የኮምፒውተር መልእክት በአማርኛ ጻፍ።\nYour password has been changed'),
    ('headline', 'ለዚህ ጽሑፍ ተስማሚ የዜና ርዕስ ጻፍ።\nበባሕር ዳር ከተማ የተገነባው አዲስ ቤተ መጻሕፍት ትናንት ተመረቀ። ቤተ መጻሕፍቱ ሃያ ሺህ መጻሕፍት አሉት፤ ተማሪዎች በነፃ ይጠቀሙበታል።'),
    ('headline', 'ለሚከተለው ዜና ርዕስ ስጥ።\nበዘንድሮው የቡና ምርት ዘመን ኢትዮጵያ ወደ ውጭ ከላከችው ቡና ከአንድ ቢሊዮን ዶላር በላይ ማግኘቷን የግብርና ሚኒስቴር አስታወቀ።'),
    ('write_lead', 'በሚከተለው ርዕስ አጭር የዜና መግቢያ ጻፍ።\nበሐዋሳ የመንገድ ሥራ ተጀመረ'),
    ('write_lead', 'ይህን ርዕስ መነሻ አድርገህ የዜናውን የመጀመሪያ አንቀጽ ጻፍ።\nየአትሌቲክስ ቡድኑ ወደ ፓሪስ ተጓዘ'),
    ('topic', 'የሚከተለው ዜና በየትኛው ዘርፍ ይመደባል? አማራጮች፦ ሥነ ጥበብና ባህል፣ ንግድና ኢኮኖሚ፣ ግጭትና ጥቃት፣ አደጋ፣ መዝናኛ፣ አካባቢ፣ ጤና፣ ዓለም አቀፍ ግንኙነት፣ ሕግና '
              'ወንጀል፣ ፖለቲካ፣ ሳይንስና ቴክኖሎጂ፣ ስፖርት።\nየእግር ኳስ ቡድኑ በመጨረሻው ደቂቃ ባስቆጠረው ጎል ዋንጫውን ወሰደ።'),
    ('topic', 'የሚከተለው ዜና በየትኛው ዘርፍ ይመደባል? አማራጮች፦ ሥነ ጥበብና ባህል፣ ንግድና ኢኮኖሚ፣ ግጭትና ጥቃት፣ አደጋ፣ መዝናኛ፣ አካባቢ፣ ጤና፣ ዓለም አቀፍ ግንኙነት፣ ሕግና '
              'ወንጀል፣ ፖለቲካ፣ ሳይንስና ቴክኖሎጂ፣ ስፖርት።\nበክልሉ የወባ በሽታን ለመከላከል ለአንድ ሚሊዮን ሰዎች አጎበር ተሰጠ።'),
    ('sentiment', 'ይህ ጽሑፍ አዎንታዊ፣ አሉታዊ ወይስ ገለልተኛ ነው?\nበጣም ደስ የሚል ዜና ነው፤ እግዚአብሔር ይስጥልን!'),
    ('sentiment', 'የሚከተለው አስተያየት ስሜቱ ምን ዓይነት ነው? አዎንታዊ፣ አሉታዊ ወይስ ገለልተኛ?\nይህ ሥራ በጣም ያሳፍራል፤ ሕዝቡን እያታለሉ ነው።'),
    ('entities', 'በሚከተለው ጽሑፍ ውስጥ የተጠቀሱትን የሰው፣ የቦታና የድርጅት ስሞች አውጣ።\nአቶ ከበደ ተስፋዬ ከጅማ ወደ አዲስ አበባ ሄዱ።'),
    ('term_en_am', '«bridge» በአማርኛ ምን ይባላል?'),
    ('term_en_am', '«heart disease» በአማርኛ ምን ይባላል?'),
    ('term_am_en', '«ዝሆን» በእንግሊዝኛ ምን ማለት ነው?'),
    ('abbreviation', '«ት/ቤት» የሚለው አህጽሮተ ቃል ሲፈታ ምን ይሆናል?'),
    ('abbreviation', '«ዓ/ም» የሚለው አህጽሮተ ቃል ሲፈታ ምን ይሆናል?'),
    ('inflect', '«ወንበር» የሚለውን ስም «የእኔ» በሚል ባለቤትነት ጻፍ።'),
    ('inflect', '«መስኮት» የሚለውን ስም «የእነርሱ» በሚል ባለቤትነት ጻፍ።'),
    ('plural', '«ድመት» የሚለውን ስም በብዙ ቁጥር ጻፍ።'),
    ('plural', 'የ«ሐኪም» ብዙ ቁጥር ምንድን ነው?'),
    ('culture_qa', 'በኢትዮጵያ ለእንግዳ የሚቀርበው ባህላዊ መጠጥ ምንድን ነው?'),
    ('culture_qa', 'በኢትዮጵያ ሰዎች በብዛት የሚበሉት ምግብ ምንድን ነው?'),
    ('spelling', 'በሚከተለው ዓረፍተ ነገር ውስጥ ያሉትን የፊደል ስህተቶች አርም።\nመንግሥት አዲስ የትምህርት ፖሊሲ እንደሚያወጣ አስታወቃ።'),
    ('spelling', 'በሚከተለው ዓረፍተ ነገር ውስጥ ያሉትን የፊደል ስህተቶች አርም።\nየከተማዋ ነዋሪዎች የውሃ ችግር አለብን ሲሉ ለጋዜጠኞች ተናገሩ።'),
    ('punctuation', 'በሚከተለው ጽሑፍ ላይ ሥርዓተ ነጥብ ጨምር።\nዳቦ ወተት እንቁላልና ቅቤ ገዛሁ'),
    ('spaces', 'ቃላቱ ተያይዘዋል፤ በትክክል ለያይተህ ጻፍ።\nተማሪዎቹወደትምህርትቤትሄዱ።'),
    ('spaces', 'ቃላቱ ተያይዘዋል፤ በትክክል ለያይተህ ጻፍ።\nነገከጓደኞቼጋርወደገበያእሄዳለሁ።'),
    ('number_words', 'ቁጥር 347 በቃላት ጻፍ።'),
    ('number_words', '2,516 በአማርኛ እንዴት ይነበባል?'),
    ('number_ethiopic', '75 በግዕዝ ቁጥር ጻፍ።'),
    ('arithmetic', 'ሰባት ሲደመር ስምንት ስንት ነው?'),
    ('arithmetic', 'ከአሥራ ዘጠኝ ላይ ሰባት ሲቀነስ ስንት ይቀራል?'),
    ('fidel', 'የ«መ» ራብዕ ምንድን ነው?'),
    ('calendar', 'ከየካቲት በኋላ የሚመጣው ወር የትኛው ነው?'),
    ('chat', 'ሰላም ወዳጄ! ዛሬ እንዴት ነህ?'),
    ('chat', 'ለፈተና እንዴት ልዘጋጅ?'),
]

def shortened(path:Path, most:int) -> dict: # by kind
    "Rows of a file of instructions that are short enough to be read whole."
    found = defaultdict(list)
    for line in path.read_text(encoding='utf8').splitlines():
        row = json.loads(line)
        if len((row['instruction']+row['input']+row['output']).encode())<=most:
            found[row['task']].append(row)
    return found

def question(row:dict) -> str:
    "What the user says."
    return '\n'.join(filter(None, (row['instruction'], row['input'])))

def mix(data:Path, out:Path, per_kind:int=450, most:int=560):
    "Write a balanced part of the instructions as conversations, with the package's own."
    pick = random.Random(0)
    asked = {text for _, text in QUESTIONS}
    lines = (PACKAGE/'sample_tasks'/'chats.jsonl').read_text(encoding='utf8').splitlines()*3
    for kind, rows in shortened(data/'instruct'/'train.jsonl', most).items():
        if kind in LEFT_OUT:
            continue
        rows = [row for row in rows if question(row) not in asked]
        pick.shuffle(rows)
        for row in rows[:FEWER.get(kind, per_kind)]:
            turns = [dict(role='user', content=question(row)), dict(role='assistant', content=row['output'])]
            lines += [json.dumps(dict(messages=turns), ensure_ascii=False)]*TIMES.get(kind, 1)
    pick.shuffle(lines)
    out.write_text('\n'.join(lines)+'\n', encoding='utf8')
    print(f'{out}: {len(lines):,} conversations')

def ask(model:Path):
    "Answer the questions, greedily; keep the verdicts on answers that are as before."
    path = RESULTS/'instruct.jsonl'
    before = [json.loads(line) for line in path.read_text(encoding='utf8').splitlines()] if path.exists() else []
    known = {(row['question'], row['answer']): row['follows'] for row in before}
    talker = PairModel.load(model)
    said = answers(talker.model, [pair_turns(text) for _, text in QUESTIONS], max_new_chars=160, repetition_penalty=3.)
    rows = [dict(kind=kind, question=text, answer=answer, follows=known.get((text, answer)))
            for (kind, text), answer in zip(QUESTIONS, said)]
    path.write_text(''.join(json.dumps(row, ensure_ascii=False)+'\n' for row in rows), encoding='utf8')
    for row in rows:
        print(f"{row['kind']}: {row['question']}\n    {row['answer']}\n")

def judged(model, questions:list, guard, words:set, n:int, seed:int=1) -> dict:
    "What the policy finds in n answers that were sampled with the guard off, and the share of their words that are known."
    said = []
    while len(said)<n:                                           # another seed each time round the questions
        said += answers(model, questions[:n-len(said)], max_new_chars=100, temperature=1., top_p=1., guard=None,
                        seed=seed+len(said))
    found = [len(guard.check(text)) for text in said]
    known = policy_reward(guard, words)
    return dict(samples=n, with_findings_per_1000=1000*sum(map(bool, found))/n,
                findings_per_1000=1000*sum(found)/n,
                known_words=sum(known('', text)+count for text, count in zip(said, found))/n)

def reward(model:Path, data:Path, texts:list, kinds:list, steps:int, n:int):
    "Train adapters by the cultural policy; count before and after, on questions of the dev part."
    talker = PairModel.load(model)
    guard = default_guard()
    counts = Counter(word.strip('።፣፤?!.,«»"') for path in texts for word in path.read_text(encoding='utf8').split())
    words = {word for word, k in counts.items() if k>1}
    parts = [shortened(data/'instruct'/f'{name}.jsonl', 1200) for name in ('train', 'dev')]
    learned, unseen = ([pair_turns(question(row)) for kind in kinds for row in part[kind]] for part in parts)
    random.Random(0).shuffle(learned)
    rows = [dict(when=when, **judged(talker.model, unseen, guard, words, n, seed))
            for when, seed in (('before', 1), ('before, other draws', 10**6))]      # how much is chance?
    print(*rows, sep='\n', flush=True)
    log = improve(talker.model, learned, policy_reward(guard, words), steps=steps, max_new_chars=100, guard=None,
                  progress=lambda row: print({k: round(v, 4) for k, v in row.items()}, flush=True))
    rows.append(dict(when=f'after {steps} steps', **judged(talker.model, unseen, guard, words, n)))
    print(rows[-1])
    pd.DataFrame(rows).round(4).to_csv(RESULTS/'policy.csv', index=False)
    pd.DataFrame(log).round(5).to_csv(RESULTS/'policy_log.csv', index=False)

def main():
    about = __doc__.partition('\n')[0]
    parser = argparse.ArgumentParser(description=about)
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('mix', help='a balanced file of conversations')
    one.add_argument('--data', type=Path, required=True, help='folder that holds instruct/train.jsonl')
    one.add_argument('--out', type=Path, required=True)
    one = commands.add_parser('ask', help='forty questions')
    one.add_argument('--model', type=Path, required=True)
    one = commands.add_parser('reward', help='the cultural policy as a reward')
    one.add_argument('--model', type=Path, required=True)
    one.add_argument('--data', type=Path, required=True, help='folder that holds instruct/train.jsonl and dev.jsonl')
    one.add_argument('--texts', type=Path, nargs='+', required=True, help='texts whose words count as known')
    one.add_argument('--kinds', nargs='+', default=['write_lead', 'culture_qa'])
    one.add_argument('--steps', type=int, default=60)
    one.add_argument('--n', type=int, default=1000)
    options = vars(parser.parse_args())
    dict(mix=mix, ask=ask, reward=reward)[options.pop('command')](**options)

if __name__=='__main__':
    main()
